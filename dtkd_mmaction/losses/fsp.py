"""Flow of the solution procedure (Yim, Joo, Bae and Kim, CVPR 2017).

The flow between two stages is described by the Gram matrix of their channels
over all positions. The student learns the teacher's matrices.
"""

from typing import List, Sequence, Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor

from ..modules.grid import align_grids
from .at import deepest_pairs
from .numerics import at_least_float32
from .options import check_ranges


def fsp_matrix(first: Tensor, second: Tensor) -> Tensor:
    """Averages the products of two maps' channels over positions.

    Args:
        first (Tensor): (B, C_1, T, H, W).
        second (Tensor): (B, C_2, T', H', W'); the larger grid is pooled to the
            smaller.

    Returns:
        Tensor: (B, C_1, C_2).
    """
    first, second = (
        feature_map.flatten(2)  # (B, C, T * H * W)
        for feature_map in align_grids(
            [at_least_float32(first), at_least_float32(second)]
        )
    )
    return first @ second.transpose(1, 2) / first.shape[2]


def fsp_loss(
    student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]
) -> Tensor:
    """Sums the mean squared difference of the matrices over stage pairs.

    Args:
        student_maps (Sequence[Tensor]): S maps, shallow to deep, each
            (B, C_i, T, H, W).
        teacher_maps (Sequence[Tensor]): S maps with the same C_i; the grids
            may differ.

    Returns:
        Tensor: Scalar, the sum over the S - 1 pairs of consecutive stages.
    """
    terms = [
        F.mse_loss(
            fsp_matrix(*student_maps[stage : stage + 2]),
            fsp_matrix(*teacher_maps[stage : stage + 2]),
        )
        for stage in range(len(student_maps) - 1)
    ]
    return torch.stack(terms).sum()


@MODELS.register_module()
class FSPLoss(nn.Module):
    """FSP loss on the matrices of all pairs of consecutive stages.

    The authors train with this loss first and with the labels afterwards; here
    both are used together. Tap a ViT teacher's maps before its final
    LayerNorm.

    Args:
        loss_weight (float): Defaults to 1.0.
        student_shapes (list[tuple]): (C, T, H, W) of every stage, shallow to
            deep.
        teacher_shapes (list[tuple]): The same for the teacher. Stages are
            paired from the deepest; surplus stages are ignored. If the
            channels of a pair differ, a 1x1x1 convolution (in training only)
            maps the student's to the teacher's.

    Raises:
        ValueError: If there are fewer than two stages.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import FSPLoss
        >>> shapes = [(4, 4, 14, 14), (8, 4, 7, 7)]
        >>> maps = [torch.randn(2, *shape) for shape in shapes]
        >>> loss = FSPLoss(student_shapes=shapes, teacher_shapes=shapes)
        >>> float(loss(maps, maps))
        0.0
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        *,
        student_shapes: List[Tuple[int, int, int, int]],
        teacher_shapes: List[Tuple[int, int, int, int]],
    ) -> None:
        super().__init__()
        check_ranges('FSPLoss', loss_weight=loss_weight)
        self.loss_weight = loss_weight
        self.stages = min(len(student_shapes), len(teacher_shapes))
        if self.stages < 2:
            raise ValueError(
                'FSPLoss relates a stage to the next and needs two; the '
                f'student has {len(student_shapes)}, the teacher '
                f'{len(teacher_shapes)}.'
            )
        self.align = nn.ModuleList(
            nn.Identity()
            if student[0] == teacher[0]
            else nn.Conv3d(student[0], teacher[0], 1)
            for student, teacher in deepest_pairs(
                student_shapes, teacher_shapes, self.stages
            )
        )

    def forward(
        self, student_maps: List[Tensor], teacher_maps: List[Tensor]
    ) -> Tensor:
        """Computes the weighted :func:`fsp_loss`.

        Args:
            student_maps (list[Tensor]): Each (B, C, T, H, W), shallow to
                deep.
            teacher_maps (list[Tensor]): Likewise, with its own shapes.

        Returns:
            Tensor: Scalar.
        """
        pairs = deepest_pairs(student_maps, teacher_maps, self.stages)
        student = [
            align(at_least_float32(student_map))
            for align, (student_map, _) in zip(self.align, pairs)
        ]
        teacher = [teacher_map.detach() for _, teacher_map in pairs]
        return self.loss_weight * fsp_loss(student, teacher)
