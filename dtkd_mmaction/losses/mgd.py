"""Masked generative distillation (Yang, Li, Shao, Shi, Yuan, ECCV 2022).

A part of the student's last map is masked, and a small generator reconstructs
the teacher's whole map from the rest.
"""

from typing import Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor

from ..modules.grid import align_grids
from .numerics import at_least_float32
from .options import check_choice, check_ranges

MASKS_ON = ('channel', 'position', 'tube')
REDUCTIONS = ('mse_mean', 'sum_per_sample')


def mgd_loss(
    generated: Tensor, teacher_map: Tensor, reduction: str = 'mse_mean'
) -> Tensor:
    """Computes the squared error at every position, masked or not.

    Args:
        generated (Tensor): (B, C, T, H, W).
        teacher_map (Tensor): (B, C, T, H, W).
        reduction (str): ``'mse_mean'``: mean over all elements;
            ``'sum_per_sample'``: sum over a sample, mean over the batch, as in
            the official code, which is C * T * H * W times larger.

    Returns:
        Tensor: Scalar.
    """
    check_choice('mgd_loss', 'reduction', reduction, REDUCTIONS)
    generated = at_least_float32(generated)
    teacher_map = at_least_float32(teacher_map)
    if reduction == 'mse_mean':
        return F.mse_loss(generated, teacher_map)
    error = F.mse_loss(generated, teacher_map, reduction='sum')
    return error / len(generated)


def random_mask(
    feature_map: Tensor, mask_on: str, mask_ratio: float
) -> Tensor:
    """Draws zeros with probability ``mask_ratio`` and ones otherwise.

    Unlike dropout, the kept elements are not scaled up.

    Args:
        feature_map (Tensor): (B, C, T, H, W).
        mask_on (str): Unit that is masked: a ``'channel'`` (the authors'
            choice for classification), a ``'position'`` (their choice for
            detection and segmentation), or a ``'tube'``: a position in all
            frames, so that neighbouring frames do not reveal it.
        mask_ratio (float): In [0, 1].

    Returns:
        Tensor: (B, C, 1, 1, 1), (B, 1, T, H, W) or (B, 1, 1, H, W).
    """
    check_choice('random_mask', 'mask_on', mask_on, MASKS_ON)
    batch, channels, *grid = feature_map.shape
    shape = dict(
        channel=(batch, channels, 1, 1, 1),
        position=(batch, 1, *grid),
        tube=(batch, 1, 1, *grid[1:]),
    )[mask_on]
    kept = torch.rand(shape, device=feature_map.device) >= mask_ratio
    return kept.to(feature_map.dtype)


@MODELS.register_module()
class MGDLoss(nn.Module):
    """MGD: generates the teacher's last map from the student's masked map.

    The layers are used in training only.

    Args:
        loss_weight (float): Defaults to 1.0, for ``'mse_mean'``. The
            authors' 7e-5 belongs to ``'sum_per_sample'`` on 512 x 7 x 7 (a
            mean's 1.76) and grows with the map: 21 on 768 x 8 x 7 x 7.
        student_shape (tuple): (C, T, H, W) of the student's map.
        teacher_shape (tuple): (C, T, H, W) of the teacher's map.
        mask_on (str): ``'channel'``, ``'position'`` or ``'tube'``, see
            :func:`random_mask`. Defaults to ``'channel'``.
        mask_ratio (float): Fraction that is masked; the authors use 0.15 for
            channels, 0.65 or 0.75 for positions. Defaults to 0.15.
        reduction (str): ``'mse_mean'`` or ``'sum_per_sample'`` (official),
            see :func:`mgd_loss`. Defaults to ``'mse_mean'``.

    Raises:
        ValueError: For an unknown option, or a ratio outside [0, 1].

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import MGDLoss
        >>> student = torch.randn(2, 8, 4, 7, 7)
        >>> teacher = torch.randn(2, 12, 4, 7, 7)
        >>> loss = MGDLoss(
        ...     student_shape=(8, 4, 7, 7), teacher_shape=(12, 4, 7, 7)
        ... )
        >>> loss(student, teacher).shape
        torch.Size([])
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        *,
        student_shape: Tuple[int, int, int, int],
        teacher_shape: Tuple[int, int, int, int],
        mask_on: str = 'channel',
        mask_ratio: float = 0.15,
        reduction: str = 'mse_mean',
    ) -> None:
        super().__init__()
        check_ranges('MGDLoss', loss_weight=loss_weight, mask_ratio=mask_ratio)
        check_choice('MGDLoss', 'mask_on', mask_on, MASKS_ON)
        check_choice('MGDLoss', 'reduction', reduction, REDUCTIONS)
        self.loss_weight = loss_weight
        self.mask_on = mask_on
        self.mask_ratio = mask_ratio
        self.reduction = reduction
        student_width, teacher_width = student_shape[0], teacher_shape[0]
        self.align = nn.Identity()
        if student_width != teacher_width:
            self.align = nn.Conv3d(student_width, teacher_width, 1)
        # It ends in a convolution, so it also reaches the negative values
        # of a map after LayerNorm.
        self.generator = nn.Sequential(
            nn.Conv3d(teacher_width, teacher_width, 3, padding=1),
            nn.ReLU(),
            nn.Conv3d(teacher_width, teacher_width, 3, padding=1),
        )

    def forward(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Aligns, masks and generates, then computes :func:`mgd_loss`.

        Args:
            student_map (Tensor): (B, C_s, T, H, W).
            teacher_map (Tensor): (B, C_t, T', H', W').

        Returns:
            Tensor: Scalar.
        """
        student, teacher = align_grids(
            [
                at_least_float32(student_map),
                at_least_float32(teacher_map.detach()),
            ]
        )
        student = self.align(student)
        mask = random_mask(student, self.mask_on, self.mask_ratio)
        generated = self.generator(student * mask)
        return self.loss_weight * mgd_loss(generated, teacher, self.reduction)
