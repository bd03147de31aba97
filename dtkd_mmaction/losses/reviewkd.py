"""Knowledge review, ReviewKD (Chen, Liu, Zhao, Jia, CVPR 2021).

The student's stages are fused from the deepest to the shallowest, so that a
stage of the teacher also trains the student's earlier stages.
"""

from typing import List, Optional, Sequence, Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor

from .numerics import at_least_float32
from .options import check_ranges
from .schedule import warm_up

PYRAMID = (4, 2, 1)


def hcl_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Computes the hierarchical context loss: errors at several resolutions.

    The original maps have weight 1; maps pooled to 4 x 4, 2 x 2 and 1 x 1 per
    frame have half of the previous weight. The sum is divided by the sum of
    the weights. Resolutions not below that of the maps are omitted.

    Args:
        student (Tensor): (B, C, T, H, W).
        teacher (Tensor): (B, C, T, H, W).

    Returns:
        Tensor: Scalar.
    """
    student, teacher = at_least_float32(student), at_least_float32(teacher)
    frames, *plane = student.shape[2:]
    loss = F.mse_loss(student, teacher)
    weight, weights = 1.0, 1.0
    for size in PYRAMID:
        if size >= max(plane):
            continue
        grid = (frames, *(min(size, length) for length in plane))
        weight /= 2
        weights += weight
        loss = loss + weight * F.mse_loss(
            F.adaptive_avg_pool3d(student, grid),
            F.adaptive_avg_pool3d(teacher, grid),
        )
    return loss / weights


class SafeBatchNorm3d(nn.BatchNorm3d):
    """Batch norm that also accepts a single vector.

    The pooled vector of a last batch of one clip has no variance; the running
    statistics are used then.
    """

    def forward(self, feature_map: Tensor) -> Tensor:
        """Normalises (B, C, T, H, W)."""
        if feature_map.numel() > feature_map.shape[1]:
            return super().forward(feature_map)
        return F.batch_norm(
            feature_map,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            eps=self.eps,
        )


def resize_nearest(feature_map: Tensor, grid: Sequence[int]) -> Tensor:
    """Resizes (B, C, T, H, W) to a grid by nearest neighbours."""
    if feature_map.shape[2:] == tuple(grid):
        return feature_map
    return F.interpolate(feature_map, size=tuple(grid), mode='nearest')


class AttentionBasedFusion(nn.Module):
    """Attention-based fusion (ABF) of a stage with the deeper stages.

    Args:
        in_channels (int): Channels of the student's stage.
        mid_channels (int): Channels of the map that is passed on.
        out_channels (int): Channels of the teacher's stage.
        fuse (bool): Whether there is a deeper level.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        fuse: bool,
    ) -> None:
        super().__init__()
        self.reduce = nn.Sequential(
            nn.Conv3d(in_channels, mid_channels, 1, bias=False),
            SafeBatchNorm3d(mid_channels),
        )
        # Per frame, as the authors' 3 x 3. A kernel over three frames would
        # cost more than the student.
        self.expand = nn.Sequential(
            nn.Conv3d(
                mid_channels,
                out_channels,
                (1, 3, 3),
                padding=(0, 1, 1),
                bias=False,
            ),
            SafeBatchNorm3d(out_channels),
        )
        self.attention = nn.Conv3d(2 * mid_channels, 2, 1) if fuse else None
        for layer in (self.reduce[0], self.expand[0]):
            nn.init.kaiming_uniform_(layer.weight, a=1)

    def forward(
        self,
        student_map: Tensor,
        deeper: Optional[Tensor],
        grid: Sequence[int],
    ) -> Tuple[Tensor, Tensor]:
        """Returns the map to compare with the teacher, and the map to pass on.

        Args:
            student_map (Tensor): (B, C_in, T, H, W).
            deeper (Tensor, optional): Map passed on by the deeper level, (B,
                C_mid, ...); None for the deepest.
            grid (Sequence[int]): (T', H', W') of the teacher's stage.

        Returns:
            tuple[Tensor, Tensor]: (B, C_out, *grid), (B, C_mid, *grid).
        """
        fused = self.reduce(student_map)
        if self.attention is not None:
            deeper = resize_nearest(deeper, fused.shape[2:])
            weights = self.attention(torch.cat([fused, deeper], dim=1))
            own, other = weights.sigmoid().split(1, dim=1)
            fused = own * fused + other * deeper
        fused = resize_nearest(fused, grid)
        return self.expand(fused), fused


@MODELS.register_module()
class ReviewKDLoss(nn.Module):
    """ReviewKD on the deepest stages and the pooled vector.

    The authors compare maps before the last activation of a stage; here the
    tapped maps are compared. The layers are used in training only.

    Args:
        loss_weight (float): The authors use 0.6 to 8. Defaults to 1.0.
        student_shapes (list[tuple]): (C, T, H, W) of the student's stages,
            shallow to deep.
        teacher_shapes (list[tuple]): The same for the teacher. The numbers may
            differ; stages are paired from the deepest.
        student_width (int): Width of the student's embedding.
        teacher_width (int): Width of the teacher's embedding.
        stages (int): Number of pairs of stages, or all if there are fewer.
            Defaults to 3.
        mid_channels (int, optional): Channels in which stages are fused.
            Defaults to those of the student's deepest stage, at most 512.
        warm_up_epochs (int): Epochs until the loss has its full weight; the
            authors use 20 of 240. Defaults to 0.

    Raises:
        ValueError: For fewer than one stage.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import ReviewKDLoss
        >>> shapes = [(4, 4, 14, 14), (8, 4, 7, 7)]
        >>> maps = [torch.randn(2, *shape) for shape in shapes]
        >>> loss = ReviewKDLoss(
        ...     student_shapes=shapes,
        ...     teacher_shapes=shapes,
        ...     student_width=8,
        ...     teacher_width=8,
        ... )
        >>> vector = torch.randn(2, 8)
        >>> loss(maps, maps, vector, vector).shape
        torch.Size([])
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        *,
        student_shapes: Sequence[Tuple[int, int, int, int]],
        teacher_shapes: Sequence[Tuple[int, int, int, int]],
        student_width: int,
        teacher_width: int,
        stages: int = 3,
        mid_channels: Optional[int] = None,
        warm_up_epochs: int = 0,
    ) -> None:
        super().__init__()
        check_ranges(
            'ReviewKDLoss',
            loss_weight=loss_weight,
            stages=stages,
            mid_channels=mid_channels,
            warm_up_epochs=warm_up_epochs,
        )
        self.loss_weight = loss_weight
        self.warm_up_epochs = warm_up_epochs
        self.stages = min(stages, len(student_shapes), len(teacher_shapes))
        mid_channels = mid_channels or min(512, student_shapes[-1][0])
        pairs = [
            (student[0], teacher[0])
            for student, teacher in zip(
                student_shapes[-self.stages :], teacher_shapes[-self.stages :]
            )
        ]
        pairs.append((student_width, teacher_width))
        self.fusions = nn.ModuleList(
            AttentionBasedFusion(
                in_channels, mid_channels, out_channels, i < self.stages
            )
            for i, (in_channels, out_channels) in enumerate(pairs)
        )

    def forward(
        self,
        student_maps: List[Tensor],
        teacher_maps: List[Tensor],
        student_embedding: Tensor,
        teacher_embedding: Tensor,
    ) -> Tensor:
        """Computes the weighted sum of :func:`hcl_loss` over the levels.

        Args:
            student_maps (list[Tensor]): Each (B, C, T, H, W), shallow to
                deep.
            teacher_maps (list[Tensor]): Likewise.
            student_embedding (Tensor): (B, D_s), the deepest level.
            teacher_embedding (Tensor): (B, D_t).

        Returns:
            Tensor: Scalar.
        """
        students, teachers = (
            [*maps[-self.stages :], embedding[:, :, None, None, None]]
            for maps, embedding in (
                (student_maps, student_embedding),
                (teacher_maps, teacher_embedding),
            )
        )
        loss, deeper = 0.0, None
        for fusion, student, teacher in reversed(
            list(zip(self.fusions, students, teachers))
        ):
            fused, deeper = fusion(
                at_least_float32(student), deeper, teacher.shape[2:]
            )
            loss = loss + hcl_loss(fused, teacher.detach())
        return self.loss_weight * warm_up(self.warm_up_epochs) * loss
