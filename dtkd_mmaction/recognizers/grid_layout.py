"""Reads the outputs of MMAction2's modules as (B, C, T, H, W) grids.

Backbones return maps, folded maps, token sequences with and without a class
token, lists of pairs, and sometimes only a vector. Only this file knows these
forms.
"""

import math
from typing import Any, NamedTuple, Optional, Sequence, Set, Tuple

import torch
import torch.nn as nn
from einops import rearrange
from torch import Tensor

# Backbones whose tokens do not come as (B, [cls,] T * H * W, C).
TOKEN_LAYOUTS = {
    'TimeSformer': 'b (h w t) c',
    'UniFormerV2': '(h w) (b t) c',
}
# Tokens that may precede the patches: class, distillation, registers.
MAX_EXTRA_TOKENS = 5
# How often a hierarchical model halves the plane of its patches.
MAX_MERGES = 3


class ClipShape(NamedTuple):
    """Shape of a model's input: samples, frames, height and width."""

    batch: int
    frames: int
    height: int
    width: int

    @classmethod
    def of(cls, model_input: Tensor) -> 'ClipShape':
        """Reads the shape of (B, 1, 3, T, H, W) or (B, T, 3, H, W)."""
        height, width = model_input.shape[-2:]
        frames = model_input.shape[1 if model_input.ndim == 5 else 3]
        return cls(len(model_input), frames, height, width)


class PatchEmbedding(NamedTuple):
    """The convolution that cuts a clip into tokens, each of (T, H, W).

    Attributes:
        kernel (tuple[int, int, int]): Size of a patch.
        stride (tuple[int, int, int]): Distance of the patches.
        padding (tuple[int, int, int]): Padding on each side.
    """

    kernel: Tuple[int, int, int]
    stride: Tuple[int, int, int]
    padding: Tuple[int, int, int] = (0, 0, 0)

    @classmethod
    def of(cls, backbone: nn.Module) -> 'PatchEmbedding':
        """Finds the first strided convolution; without one, single pixels."""
        for module in backbone.modules():
            if (
                isinstance(module, (nn.Conv2d, nn.Conv3d))
                and module.stride[-1] > 1
            ):
                padding = module.padding
                if isinstance(padding, str):  # 'valid'; 'same' takes stride 1
                    padding = (0,) * len(module.kernel_size)
                time = len(module.kernel_size) == 2  # a frame at a time
                return cls(
                    (1,) * time + tuple(module.kernel_size),
                    (1,) * time + tuple(module.stride),
                    (0,) * time + tuple(padding),
                )
        return cls((1, 1, 1), (1, 1, 1))

    def grid(self, clip: ClipShape) -> Tuple[int, int, int]:
        """Returns (T, H, W) of the tokens of a clip."""
        frames, height, width = (
            (size + 2 * padding - kernel) // stride + 1
            for size, kernel, stride, padding in zip(clip[1:], *self)
        )
        return frames, height, width


def same_aspect(plane: Sequence[int], clip: ClipShape) -> bool:
    """Returns whether a plane (H, W) can be the clip's, shrunk and rounded.

    Rounding moves each side by less than one cell, so ``h * W`` and
    ``w * H`` differ by at most the longer side.
    """
    height, width = plane
    return (
        height <= clip.height
        and width <= clip.width
        and abs(height * clip.width - width * clip.height)
        <= max(clip.height, clip.width)
    )


def as_grid(
    output: Any,
    clip: ClipShape,
    token_layout: str,
    patches: PatchEmbedding,
) -> Optional[Tensor]:
    """Converts a module's output to (B, C, T, H, W); None if it is no grid.

    Args:
        output: A tensor or nested lists of them. Of several grids the widest
            counts: SlowFast's slow path, the deepest stage, MViT's patches.
        clip (ClipShape): Shape of the model's input.
        token_layout (str): Order of the tokens in a 3-D tensor.
        patches (PatchEmbedding): The model's patch embedding.
    """
    if isinstance(output, (list, tuple)):
        if is_tokens_with_size(output):
            tokens, (frames, height, width) = output
            tokens = tokens[:, -frames * height * width :]  # class token first
            return rearrange(
                tokens, 'b (t h w) c -> b c t h w', t=frames, h=height
            )
        found = [as_grid(x, clip, token_layout, patches) for x in output]
        grids = [grid for grid in found if grid is not None]
        return max(grids, key=lambda grid: grid.shape[1], default=None)
    if not isinstance(output, Tensor) or not output.is_floating_point():
        return None
    if output.ndim == 5 and len(output) == clip.batch:
        frames = output.shape[2]
        if frames <= clip.frames and same_aspect(output.shape[3:], clip):
            return output
        if same_aspect(output.shape[2:4], clip):
            return output.movedim(-1, 1)  # (B, T, H, W, C)
    if output.ndim == 4 and len(output) % clip.batch == 0:
        if not same_aspect(output.shape[2:], clip):
            if not same_aspect(output.shape[1:3], clip):
                return None
            output = output.movedim(-1, 1)  # (B * T, H, W, C)
        return rearrange(output, '(b t) c h w -> b c t h w', b=clip.batch)
    if output.ndim == 3:
        return tokens_as_grid(output, clip, token_layout, patches)
    return None


def is_tokens_with_size(output: Any) -> bool:
    """Returns whether an MViT block made it: tokens and their (T, H, W)."""
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
    tokens: Tensor, clip: ClipShape, layout: str, patches: PatchEmbedding
) -> Optional[Tensor]:
    """Converts a token sequence to (B, C, T, H, W); None if it does not fit.

    The number of frames follows from the patch embedding. The plane is that
    of the patch embedding, halved as often as a hierarchical model merges
    patches. Leading tokens that do not fit in (class, distillation,
    registers) are dropped. A length that fits several planes is refused.
    """
    if layout == '(h w) (b t) c':
        tokens, layout = tokens.transpose(0, 1), 'b (t h w) c'
    samples, length, _ = tokens.shape
    if samples % clip.batch:
        return None
    frames, height, width = patches.grid(clip)
    if samples > clip.batch:  # the frames lie in the batch dimension
        frames = 1
    extras = {
        plane: length - frames * math.prod(plane)
        for plane in merged_planes(height, width)
    }
    extras = {p: n for p, n in extras.items() if 0 <= n <= MAX_EXTRA_TOKENS}
    fewest = min(extras.values(), default=None)
    planes = [plane for plane, extra in extras.items() if extra == fewest]
    if len(planes) != 1:
        return None
    grid = rearrange(
        tokens[:, fewest:],
        f'{layout} -> b c t h w',
        t=frames,
        h=planes[0][0],
        w=planes[0][1],
    )
    return rearrange(grid, '(b f) c t h w -> b c (f t) h w', b=clip.batch)


def merged_planes(height: int, width: int) -> Set[Tuple[int, int]]:
    """Returns the planes after 0 to :data:`MAX_MERGES` halvings.

    An odd side is rounded down by some models and up by others.
    """
    planes = {(height, width)}
    down = up = (height, width)
    for _ in range(MAX_MERGES):
        down = (down[0] // 2, down[1] // 2)
        up = (-(-up[0] // 2), -(-up[1] // 2))
        planes |= {down, up}
    return {plane for plane in planes if math.prod(plane)}


def as_embedding(head_input: Any, batch: int) -> Tensor:
    """Pools the input of a stock head, as the head does, to (B, D).

    Args:
        head_input: Input of the head. Of MViT's ``[patches, cls]`` the class
            token is taken; several maps (SlowFast) are averaged and
            concatenated; a map or a sequence is averaged; a vector stays.
            Frames that lie in the batch dimension are averaged.
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
