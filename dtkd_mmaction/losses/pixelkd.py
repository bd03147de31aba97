"""Pixel distillation, one-stage ISRD (Guo, Han, Li, Cheng, Hu, Zhang, 2024).

A student with small clips reconstructs the teacher's larger clip from the
output of its first convolution, so that the stem keeps the details.
"""

import math
from typing import Tuple

import torch.nn as nn
import torch.nn.functional as F
from einops import rearrange
from mmaction.registry import MODELS
from torch import Tensor

from .numerics import at_least_float32
from .options import check_choice, check_ranges

FITS = ('resize', 'crop')


def pixel_kd_loss(reconstruction: Tensor, clip: Tensor) -> Tensor:
    """Computes the mean absolute error over all pixels.

    Args:
        reconstruction (Tensor): (B, 3, T, H, W).
        clip (Tensor): Target, (B, 3, T, H, W).

    Returns:
        Tensor: Scalar.

    Raises:
        ValueError: If the shapes differ.
    """
    if reconstruction.shape != clip.shape:
        raise ValueError(
            f'The reconstruction is {tuple(reconstruction.shape)}, the '
            f'clip {tuple(clip.shape)}.'
        )
    return F.l1_loss(at_least_float32(reconstruction), at_least_float32(clip))


def evenly_spaced_frames(clip: Tensor, count: int) -> Tensor:
    """Selects ``count`` evenly spaced frames, starting with the first.

    Args:
        clip (Tensor): (B, C, T, H, W).
        count (int): At most T.

    Returns:
        Tensor: (B, C, count, H, W).
    """
    frames = clip.shape[2]
    if count == frames:
        return clip
    return clip[:, :, [i * frames // count for i in range(count)]]


def fit_frames(frames: Tensor, size: Tuple[int, int], fit: str) -> Tensor:
    """Resizes or crops frames to a size.

    Args:
        frames (Tensor): (B, 3, H, W).
        size (tuple[int, int]): Wanted height and width.
        fit (str): ``'resize'``: bilinear; ``'crop'``: the bottom and the right
            are cut off.

    Returns:
        Tensor: (B, 3, height, width); for ``'crop'`` not larger than
            ``frames``.
    """
    check_choice('fit_frames', 'fit', fit, FITS)
    height, width = size
    if fit == 'crop':
        return frames[:, :, :height, :width]
    if frames.shape[2:] == (height, width):
        return frames
    return F.interpolate(
        frames, size=(height, width), mode='bilinear', align_corners=False
    )


@MODELS.register_module()
class PixelKDLoss(nn.Module):
    """PixelKD: reconstructs the teacher's clip from the student's stem.

    This is the reconstruction term alone; the authors add KD with weight 0.9
    at tau 4 and a label loss with 0.1. Every frame is reconstructed
    independently. The layers are used in training only.

    Args:
        loss_weight (float): eta; the authors use 50 for a student at a quarter
            of the teacher's size and 10 at half of it. Defaults to 10.0.
        student_stem_shape (tuple): (C, T, H, W) of the raw output of the
            student's first convolution.
        teacher_clip_shape (tuple): (3, T, H, W) of the teacher's input.
        fit (str): How to fit the reconstruction to the teacher's size; it can
            be too large, because the magnification is an integer.
            ``'resize'``, or ``'crop'`` (official), which reconstructs at a
            wrong scale. Defaults to ``'resize'``.

    Raises:
        ValueError: For an unknown ``fit``.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import PixelKDLoss
        >>> loss = PixelKDLoss(
        ...     student_stem_shape=(8, 4, 16, 16),
        ...     teacher_clip_shape=(3, 4, 32, 32),
        ... )
        >>> stem = torch.randn(2, 8, 4, 16, 16)
        >>> loss(stem, torch.randn(2, 3, 4, 32, 32)).shape
        torch.Size([])
    """

    def __init__(
        self,
        loss_weight: float = 10.0,
        *,
        student_stem_shape: Tuple[int, int, int, int],
        teacher_clip_shape: Tuple[int, int, int, int],
        fit: str = 'resize',
    ) -> None:
        super().__init__()
        check_ranges('PixelKDLoss', loss_weight=loss_weight)
        check_choice('PixelKDLoss', 'fit', fit, FITS)
        self.loss_weight = loss_weight
        self.fit = fit
        channels, _, height, width = student_stem_shape
        self.magnification = max(
            math.ceil(teacher_clip_shape[2] / height),
            math.ceil(teacher_clip_shape[3] / width),
        )
        self.expand = nn.Conv3d(
            channels, 3 * self.magnification**2, 1, bias=False
        )
        self.shuffle = nn.PixelShuffle(self.magnification)
        self.activation = nn.PReLU(3)

    def reconstruct(self, student_stem: Tensor) -> Tensor:
        """Reconstructs frames, ``magnification`` times as large as the stem.

        Args:
            student_stem (Tensor): (B, C, T, H, W).

        Returns:
            Tensor: (B * T, 3, r * H, r * W).
        """
        expanded = self.expand(student_stem)  # (B, 3 * r * r, T, H, W)
        frames = rearrange(expanded, 'b c t h w -> (b t) c h w')
        return self.activation(self.shuffle(frames))

    def forward(self, student_stem: Tensor, teacher_clip: Tensor) -> Tensor:
        """Computes the weighted :func:`pixel_kd_loss` on the shared frames.

        Args:
            student_stem (Tensor): (B, C, T, H, W), before normalisation and
                activation.
            teacher_clip (Tensor): Normalised, (B, 3, T', H', W'). Of the one
                with more frames, evenly spaced frames are used.

        Returns:
            Tensor: Scalar.
        """
        frames = min(student_stem.shape[2], teacher_clip.shape[2])
        stem = evenly_spaced_frames(at_least_float32(student_stem), frames)
        target = evenly_spaced_frames(teacher_clip.detach(), frames)
        drawn = fit_frames(
            self.reconstruct(stem), tuple(target.shape[3:]), self.fit
        )
        reconstruction = rearrange(drawn, '(b t) c h w -> b c t h w', t=frames)
        return self.loss_weight * pixel_kd_loss(reconstruction, target)
