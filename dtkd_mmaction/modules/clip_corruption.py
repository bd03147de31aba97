"""Augmentation that keeps every pixel in its place."""

from typing import Tuple

import torch
import torch.nn as nn
from mmaction.registry import MODELS
from torch import Tensor

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601: red, green, blue


def jitter_colours(clips: Tensor, strength: float) -> Tensor:
    """Changes brightness, contrast and saturation, one factor per clip.

    Args:
        clips (Tensor): Float, 0 to 255, (B, 1, 3, T, H, W).
        strength (float): Each factor is drawn from
            [1 - strength, 1 + strength].

    Returns:
        Tensor: The same shape, 0 to 255.
    """
    shape = (3, len(clips), 1, 1, 1, 1, 1)
    factors = 1 + strength * (2 * torch.rand(shape, device=clips.device) - 1)
    brightness, contrast, saturation = factors
    clips = (clips * brightness).clamp(0, 255)
    mean = clips.mean(dim=(2, 3, 4, 5), keepdim=True)
    clips = (mean + contrast * (clips - mean)).clamp(0, 255)
    weights = clips.new_tensor(GREY).view(3, 1, 1, 1)
    grey = (clips * weights).sum(dim=2, keepdim=True)
    return (grey + saturation * (clips - grey)).clamp(0, 255)


def random_patches(
    batch: int, size: Tuple[int, int], patch_size: int, ratio: float, device
) -> Tensor:
    """Draws random squares of a regular grid.

    Args:
        batch (int): B.
        size (tuple[int, int]): H and W.
        patch_size (int): Side of a square, in pixels.
        ratio (float): Probability of a square.
        device (torch.device): Device of the mask.

    Returns:
        Tensor: Bool, (B, 1, 1, 1, H, W): one mask for all frames.
    """
    height, width = size
    grid = (-(-height // patch_size), -(-width // patch_size))
    chosen = torch.rand(batch, 1, 1, 1, *grid, device=device) < ratio
    for axis in (4, 5):
        chosen = chosen.repeat_interleave(patch_size, dim=axis)
    return chosen[..., :height, :width]


@MODELS.register_module()
class ClipCorruption(nn.Module):
    """Colour jitter and masked patches for some clips of a batch.

    The second view of CAKD's multi-view training (Liu et al. 2022), for the
    student alone. The paper also crops and rotates; here nothing moves,
    because the student's map is compared with the teacher's position by
    position. All frames of a clip are changed equally. In eval mode clips are
    not changed.

    Args:
        probability (float): Probability that a clip is corrupted. Defaults to
            0.5.
        jitter (float): Strength of the change of brightness, contrast and
            saturation, in [0, 1]. Defaults to 0.4.
        patch_size (int): Side of a patch, in pixels. Defaults to 32.
        mask_ratio (float): Share of patches that get the clip's mean colour.
            Defaults to 0.25.

    Raises:
        ValueError: For a number that is out of range.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.modules import ClipCorruption
        >>> clips = torch.zeros(2, 1, 3, 4, 32, 32, dtype=torch.uint8)
        >>> ClipCorruption()(clips).shape
        torch.Size([2, 1, 3, 4, 32, 32])
    """

    def __init__(
        self,
        probability: float = 0.5,
        jitter: float = 0.4,
        patch_size: int = 32,
        mask_ratio: float = 0.25,
    ) -> None:
        super().__init__()
        for name, value in (
            ('probability', probability),
            ('jitter', jitter),
            ('mask_ratio', mask_ratio),
        ):
            if not 0 <= value <= 1:
                raise ValueError(
                    f'ClipCorruption({name}={value}): it lies between 0 and 1.'
                )
        if patch_size < 1:
            raise ValueError(
                f'ClipCorruption(patch_size={patch_size}): at least 1.'
            )
        self.probability = probability
        self.jitter = jitter
        self.patch_size = patch_size
        self.mask_ratio = mask_ratio

    def forward(self, clips: Tensor) -> Tensor:
        """Corrupts some clips.

        Args:
            clips (Tensor): uint8 or float, 0 to 255, (B, 1, 3, T, H, W). They
                are not modified.

        Returns:
            Tensor: The same shape and type.
        """
        if not self.training:
            return clips
        chosen = torch.rand(len(clips), device=clips.device)
        chosen = chosen < self.probability
        if not chosen.any():
            return clips
        corrupted = jitter_colours(clips[chosen].float(), self.jitter)
        corrupted = torch.where(
            random_patches(
                len(corrupted),
                corrupted.shape[-2:],
                self.patch_size,
                self.mask_ratio,
                clips.device,
            ),
            corrupted.mean(dim=(3, 4, 5), keepdim=True),
            corrupted,
        )
        if not clips.is_floating_point():
            corrupted = corrupted.round()
        result = clips.clone()
        result[chosen] = corrupted.to(clips.dtype)
        return result
