"""Fused window attention for Video Swin."""

from functools import partial
from typing import Dict, List, Optional, Tuple

import torch.nn as nn
import torch.nn.functional as F
from mmaction.models.backbones.swin import WindowAttention3D
from torch import Tensor

from .rewrite import Run, Undo, replace_forward


def fuse_swin_attention(model: nn.Module, run: Run) -> List[Undo]:
    """Rewrites every ``WindowAttention3D``; it adds bias and mask once."""
    return [
        replace_forward(module, partial(attend, module, {}))
        for module in model.modules()
        if isinstance(module, WindowAttention3D)
    ]


def attend(
    module: WindowAttention3D,
    biases: Dict[tuple, Tuple[Tensor, Optional[Tensor]]],
    x: Tensor,
    mask: Optional[Tensor] = None,
) -> Tensor:
    """Replaces ``WindowAttention3D.forward``.

    Args:
        module (WindowAttention3D): Holds the weights.
        biases (dict): Sums of position bias and mask, each with its mask.
        x (Tensor): (B * windows, N, C).
        mask (Tensor, optional): Mask of shifted windows, (windows, N, N).

    Returns:
        Tensor: (B * windows, N, C).
    """
    rows, length, width = x.shape
    heads = module.num_heads
    windows = 1 if mask is None else len(mask)
    # (B, windows * heads, N, C / heads): all clips share the bias.
    q, k, v = (
        part.reshape(rows // windows, windows * heads, length, width // heads)
        for part in module.qkv(x)
        .reshape(rows, length, 3, heads, -1)
        .permute(2, 0, 3, 1, 4)
    )
    # The backbone makes one mask per size. Its address identifies it, because
    # `biases` keeps the mask, so no other tensor can get the same address.
    key = (length, None if mask is None else mask.data_ptr(), x.device)
    if key not in biases:
        biases[key] = summed_bias(module, length, mask), mask
    attended = F.scaled_dot_product_attention(
        q, k, v, attn_mask=biases[key][0].to(q.dtype), scale=module.scale
    )
    attended = attended.reshape(rows, heads, length, -1)
    return module.proj(attended.transpose(1, 2).reshape(x.shape))


def summed_bias(
    module: WindowAttention3D, length: int, mask: Optional[Tensor]
) -> Tensor:
    """Returns position bias plus mask, (1, windows * heads, N, N)."""
    places = module.relative_position_index[:length, :length]
    bias = module.relative_position_bias_table[places]  # (N, N, heads)
    bias = bias.permute(2, 0, 1).unsqueeze(0)
    if mask is not None:
        bias = bias + mask.unsqueeze(1)
    return bias.flatten(0, 1).unsqueeze(0).contiguous()
