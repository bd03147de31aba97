"""Attention transfer (Zagoruyko and Komodakis, ICLR 2017).

The student learns where the teacher is active, independent of the channel:
    maps are compared as unit vectors of their mean square over channels.
"""

from typing import List, Sequence, Tuple

import torch.nn as nn
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor

from ..modules.grid import align_grids
from .numerics import at_least_float32
from .options import check_choice, check_ranges

NORMS_OVER = ('thw', 'hw')
REDUCTIONS = ('sum_positions', 'mean')


def attention_vectors(feature_map: Tensor, norm_over: str) -> Tensor:
    """Returns the mean square over channels, normalised over positions.

    Args:
        feature_map (Tensor): (B, C, T, H, W).
        norm_over (str): ``'thw'``: one vector per sample; ``'hw'``: one per
            frame, so that all frames have the same weight.

    Returns:
        Tensor: (B, 1, T * H * W) or (B, T, H * W).
    """
    check_choice('attention_vectors', 'norm_over', norm_over, NORMS_OVER)
    # float16 overflows at the square of 256
    attention = at_least_float32(feature_map).square().mean(dim=1)
    attention = attention.flatten(2 if norm_over == 'hw' else 1)
    if norm_over == 'thw':
        attention = attention.unsqueeze(1)
    return F.normalize(attention, dim=-1)


def at_loss(
    student_map: Tensor,
    teacher_map: Tensor,
    norm_over: str = 'thw',
    reduction: str = 'sum_positions',
) -> Tensor:
    """Computes the squared difference of the attention of two maps.

    Maps of different grids are resized to the smaller one first. Pooling
    features and pooling their squares differ; the official code pools
    features.

    Args:
        student_map (Tensor): (B, C_s, T, H, W).
        teacher_map (Tensor): (B, C_t, T', H', W').
        norm_over (str): See :func:`attention_vectors`.
        reduction (str): ``'sum_positions'``: sum over the positions of a
            vector, mean over vectors, which lies in [0, 2] on every grid;
            ``'mean'``: mean over positions too, as in the official code,
            which divides that by the number of positions of a vector.

    Returns:
        Tensor: Scalar.
    """
    check_choice('at_loss', 'reduction', reduction, REDUCTIONS)
    student, teacher = (
        attention_vectors(feature_map, norm_over)
        for feature_map in align_grids(
            [at_least_float32(student_map), at_least_float32(teacher_map)]
        )
    )
    error = (student - teacher).square()
    if reduction == 'sum_positions':
        error = error.sum(dim=-1)
    return error.mean()


def deepest_pairs(
    student_maps: Sequence, teacher_maps: Sequence, count: int
) -> List[Tuple]:
    """Pairs the last ``count`` stages of two models, deepest with deepest.

    Args:
        student_maps (Sequence): One entry per stage, shallow to deep.
        teacher_maps (Sequence): The same for the teacher; the length may
            differ.
        count (int): Number of pairs.

    Returns:
        list[tuple]: Pairs of (student, teacher), shallow to deep.

    Raises:
        ValueError: If either has fewer stages.
    """
    if min(len(student_maps), len(teacher_maps)) < count:
        raise ValueError(
            f'{count} pairs of stages are wanted; the student has '
            f'{len(student_maps)}, the teacher {len(teacher_maps)}.'
        )
    return list(zip(student_maps[-count:], teacher_maps[-count:]))


@MODELS.register_module()
class ATLoss(nn.Module):
    """Attention transfer on the deepest stages.

    For a ViT teacher, tap maps before the final LayerNorm: after it, the
    mean square over channels is almost the same at every position.

    Args:
        loss_weight (float): Defaults to 20.0, about the authors' 1000 on the
            mean over a grid of 7 x 7.
        stages (int): Number of stages, from the deepest. Defaults to 2.
        norm_over (str): ``'thw'`` or ``'hw'``, see
            :func:`attention_vectors`. Defaults to ``'thw'``.
        reduction (str): ``'sum_positions'`` or ``'mean'`` (official), see
            :func:`at_loss`. Defaults to ``'sum_positions'``.

    Raises:
        ValueError: For an unknown option or fewer than one stage.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import ATLoss
        >>> student = torch.randn(2, 8, 4, 7, 7)
        >>> teacher = torch.randn(2, 12, 4, 7, 7)
        >>> ATLoss(stages=1)([student], [teacher]).shape
        torch.Size([])
    """

    def __init__(
        self,
        loss_weight: float = 20.0,
        stages: int = 2,
        norm_over: str = 'thw',
        reduction: str = 'sum_positions',
    ) -> None:
        super().__init__()
        check_ranges('ATLoss', loss_weight=loss_weight, stages=stages)
        check_choice('ATLoss', 'norm_over', norm_over, NORMS_OVER)
        check_choice('ATLoss', 'reduction', reduction, REDUCTIONS)
        self.loss_weight = loss_weight
        self.stages = stages
        self.norm_over = norm_over
        self.reduction = reduction

    def forward(
        self, student_maps: List[Tensor], teacher_maps: List[Tensor]
    ) -> Tensor:
        """Computes the weighted sum of :func:`at_loss` over the stage pairs.

        Args:
            student_maps (list[Tensor]): Each (B, C, T, H, W), shallow to
                deep.
            teacher_maps (list[Tensor]): Likewise, with its own shapes.

        Returns:
            Tensor: Scalar.
        """
        pairs = deepest_pairs(student_maps, teacher_maps, self.stages)
        return self.loss_weight * sum(
            at_loss(student, teacher.detach(), self.norm_over, self.reduction)
            for student, teacher in pairs
        )
