"""Fused attention for MViTv2, including its position bias.

The bias of query q and key k is a sum of three dot products with q, one per
axis: rel_t(q)[k_t] + rel_h(q)[k_h] + rel_w(q)[k_w]. So it is part of one
longer dot product: q is extended by rel_t(q), rel_h(q), rel_w(q), and k by
one-hot vectors of its coordinates. This needs no mask and stores no matrix
of attention weights.
"""

from functools import partial
from typing import Dict, List, Sequence, Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmaction.models.backbones.mvit import (
    MultiScaleAttention,
    attention_pool,
    resize_decomposed_rel_pos,
)
from torch import Tensor

from .rewrite import Run, Undo, replace_forward

# Fused kernels need widths that are a multiple of this.
MULTIPLE = 8


def fuse_mvit_attention(model: nn.Module, run: Run) -> List[Undo]:
    """Rewrites every ``MultiScaleAttention``; its tables become constants."""
    return [
        replace_forward(module, partial(attend, module, {}))
        for module in model.modules()
        if isinstance(module, MultiScaleAttention)
    ]


def attend(
    module: MultiScaleAttention,
    tables: Dict[tuple, Tuple[List[Tensor], Tensor]],
    x: Tensor,
    in_size: Sequence[int],
) -> Tuple[Tensor, Sequence[int]]:
    """Replaces ``MultiScaleAttention.forward``.

    Args:
        module (MultiScaleAttention): Holds the weights.
        tables (dict): Results of :func:`position_tables`, by grids.
        x (Tensor): (B, [1 +] T*H*W, C).
        in_size (Sequence[int]): (T, H, W).

    Returns:
        tuple[Tensor, Sequence[int]]: Tokens and their grid.
    """
    batch, length, _ = x.shape
    has_cls = module.with_cls_token
    qkv = module.qkv(x).reshape(batch, length, 3, module.num_heads, -1)
    (q, q_grid), (k, k_grid), (v, _) = (
        attention_pool(
            tokens, pool, in_size, norm=norm, with_cls_token=has_cls
        )
        for tokens, pool, norm in zip(
            qkv.permute(2, 0, 3, 1, 4).unbind(0),
            (module.pool_q, module.pool_k, module.pool_v),
            (module.norm_q, module.norm_k, module.norm_v),
        )
    )  # (B, heads, tokens, C / heads)
    queries, keys = [q * module.scale], [k]
    if module.rel_pos_embed:
        key = (tuple(q_grid), tuple(k_grid), q.device, q.dtype)
        if key not in tables:
            tables[key] = position_tables(module, q_grid, k_grid, q)
        axes, coordinates = tables[key]
        queries += relative_scores(q, q_grid, axes, has_cls)
        keys.append(coordinates.expand(*k.shape[:2], -1, -1))
    width = sum(part.shape[-1] for part in queries)
    padding = -width % MULTIPLE
    attended = F.scaled_dot_product_attention(
        F.pad(torch.cat(queries, dim=-1), (0, padding)),
        F.pad(torch.cat(keys, dim=-1), (0, padding)),
        # The kernel for CPUs needs the same width for all three.
        F.pad(v, (0, width + padding - v.shape[-1])),
        scale=1.0,
    )[..., : v.shape[-1]]
    if module.residual_pooling:
        first = int(has_cls)
        attended = torch.cat(
            [attended[:, :, :first], attended[:, :, first:] + q[:, :, first:]],
            dim=2,
        )
    attended = attended.transpose(1, 2).reshape(batch, -1, module.out_dims)
    return module.proj(attended), q_grid


def position_tables(
    module: MultiScaleAttention,
    q_grid: Sequence[int],
    k_grid: Sequence[int],
    like: Tensor,
) -> Tuple[List[Tensor], Tensor]:
    """Returns relative positions per axis, and coordinates of the keys.

    Returns:
        tuple[list[Tensor], Tensor]: A (q, k, C / heads) table for each of
            t, h and w; one-hot coordinates ([1 +] T*H*W, T + H + W), which
            are 0 for the class token.
    """
    axes = [
        resize_decomposed_rel_pos(table, q_size, k_size).to(like)
        for table, q_size, k_size in zip(
            (module.rel_pos_t, module.rel_pos_h, module.rel_pos_w),
            q_grid,
            k_grid,
        )
    ]
    places = torch.cartesian_prod(*(torch.arange(size) for size in k_grid))
    coordinates = torch.cat(
        [F.one_hot(p, size) for p, size in zip(places.unbind(1), k_grid)],
        dim=1,
    ).to(like)
    return axes, F.pad(coordinates, (0, 0, int(module.with_cls_token), 0))


def relative_scores(
    q: Tensor, q_grid: Sequence[int], axes: List[Tensor], has_cls: bool
) -> List[Tensor]:
    """Returns rel_t(q), rel_h(q) and rel_w(q).

    Returns:
        list[Tensor]: Each (B, heads, tokens, keys on this axis).
    """
    grid = q[:, :, int(has_cls) :].unflatten(2, tuple(q_grid))
    scores = (
        torch.einsum(equation, grid, table).flatten(2, 4)
        for equation, table in zip(
            ('bythwc,tkc->bythwk', 'bythwc,hkc->bythwk', 'bythwc,wkc->bythwk'),
            axes,
        )
    )
    return [F.pad(score, (0, 0, int(has_cls), 0)) for score in scores]
