"""What MMAction2's modules return, read as a (B, C, T, H, W) grid.

Backbones give maps, folded maps, token sequences with and without a class
token, lists of pairs, and sometimes only a vector. This file knows all of
those shapes, and nothing else does.
"""

import math
from typing import Any, NamedTuple, Optional, Tuple

import torch
import torch.nn as nn
from einops import rearrange
from torch import Tensor

# Backbones whose tokens do not come as (B, [cls,] T * H * W, C).
TOKEN_LAYOUTS = {
    'TimeSformer': 'b (h w t) c',
    'UniFormerV2': '(h w) (b t) c',
}


class ClipShape(NamedTuple):
    """What a model was given: samples, frames, height and width."""

    batch: int
    frames: int
    height: int
    width: int

    @classmethod
    def of(cls, model_input: Tensor) -> 'ClipShape':
        """Of (B, 1, 3, T, H, W) or, for a 2-D recognizer, (B, T, 3, H, W)."""
        height, width = model_input.shape[-2:]
        frames = model_input.shape[1 if model_input.ndim == 5 else 3]
        return cls(len(model_input), frames, height, width)


def first_patch_size(backbone: nn.Module) -> Tuple[int, int]:
    """Height and width of the patches of the first strided convolution."""
    for module in backbone.modules():
        if (
            isinstance(module, (nn.Conv2d, nn.Conv3d))
            and module.stride[-1] > 1
        ):
            return module.stride[-2:]
    return (1, 1)


def same_aspect(height: int, width: int, clip: ClipShape) -> bool:
    """Whether a plane can be the clip's, shrunk and rounded."""
    return (
        height <= clip.height
        and width <= clip.width
        and abs(height * clip.width / clip.height - width) <= 1
    )


def as_grid(
    output: Any,
    clip: ClipShape,
    token_layout: str,
    patch_size: Tuple[int, int],
) -> Optional[Tensor]:
    """A module's output as (B, C, T, H, W), or None if it is no grid.

    Args:
        output: A tensor or nested lists of them. Of several grids the widest
            counts: SlowFast's slow path, the deepest stage, MViT's patches.
        clip (ClipShape): What the model was given.
        token_layout (str): How tokens lie in a 3-D tensor.
        patch_size (tuple[int, int]): Of the model's patch embedding.
    """
    if isinstance(output, (list, tuple)):
        if is_tokens_with_size(output):
            tokens, (frames, height, width) = output
            tokens = tokens[:, -frames * height * width :]  # class token first
            return rearrange(
                tokens, 'b (t h w) c -> b c t h w', t=frames, h=height
            )
        grids = [as_grid(x, clip, token_layout, patch_size) for x in output]
        grids = [grid for grid in grids if grid is not None]
        return max(grids, key=lambda grid: grid.shape[1], default=None)
    if not isinstance(output, Tensor) or not output.is_floating_point():
        return None
    if output.ndim == 5 and len(output) == clip.batch:
        if same_aspect(*output.shape[3:], clip):
            return output
        if same_aspect(*output.shape[2:4], clip):
            return output.movedim(-1, 1)  # (B, T, H, W, C)
    if output.ndim == 4 and len(output) % clip.batch == 0:
        if not same_aspect(*output.shape[2:], clip):
            if not same_aspect(*output.shape[1:3], clip):
                return None
            output = output.movedim(-1, 1)  # (B * T, H, W, C)
        return rearrange(output, '(b t) c h w -> b c t h w', b=clip.batch)
    if output.ndim == 3:
        return tokens_as_grid(output, clip, token_layout, patch_size)
    return None


def is_tokens_with_size(output: Any) -> bool:
    """Whether it is what an MViT block returns: tokens and their (T, H, W)."""
    return (
        len(output) == 2
        and isinstance(output[0], Tensor)
        and output[0].ndim == 3
        and isinstance(output[1], (list, tuple))
        and len(output[1]) == 3
        and all(isinstance(size, int) for size in output[1])
        and output[0].shape[1] - math.prod(output[1]) in (0, 1)
    )


def tokens_as_grid(
    tokens: Tensor, clip: ClipShape, layout: str, patch_size: Tuple[int, int]
) -> Optional[Tensor]:
    """A token sequence as (B, C, T, H, W), or None if it does not fit.

    The plane is the input over the patch size, halved as often as a
    hierarchical model merges patches; leading tokens that do not fit in
    (class, distillation, registers) are dropped.
    """
    if layout == '(h w) (b t) c':
        tokens, layout = tokens.transpose(0, 1), 'b (t h w) c'
    samples, length, _ = tokens.shape
    if samples % clip.batch:
        return None
    folded = samples // clip.batch  # frames that lie in the batch dimension
    for shrink in (1, 2, 4, 8):
        height = clip.height // patch_size[0] // shrink
        width = clip.width // patch_size[1] // shrink
        if height * width == 0:
            return None
        frames = length // (height * width) if folded == 1 else 1
        extra = length - frames * height * width
        if 1 <= frames <= clip.frames and 0 <= extra <= 5:
            grid = rearrange(
                tokens[:, extra:],
                f'{layout} -> b c t h w',
                t=frames,
                h=height,
                w=width,
            )
            return rearrange(
                grid, '(b f) c t h w -> b c (f t) h w', b=clip.batch
            )
    return None


def as_embedding(head_input: Any, batch: int) -> Tensor:
    """What a stock head reads, pooled as the head pools it, to (B, D).

    Args:
        head_input: MViT's list of ``[patches, cls]``: the class token;
            several maps (SlowFast): their averages side by side; a map or a
            sequence: its average; a vector: itself. Frames that lie in the
            batch dimension are averaged.
        batch (int): B.
    """
    if isinstance(head_input, (list, tuple)):
        last = head_input[-1]
        if isinstance(last, (list, tuple)):  # MViT
            patches, class_token = last
            return as_embedding(
                patches if class_token is None else class_token, batch
            )
        return torch.cat([as_embedding(x, batch) for x in head_input], dim=1)
    vectors = head_input
    if vectors.ndim == 3:  # tokens
        vectors = vectors.mean(dim=1)
    elif vectors.ndim > 3:
        vectors = vectors.flatten(2).mean(dim=2)
    return vectors.reshape(batch, -1, vectors.shape[1]).mean(dim=1)
