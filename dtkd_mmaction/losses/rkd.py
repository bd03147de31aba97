"""Relational knowledge distillation (Eq. 13; Park et al. 2019)."""

import torch
import torch.distributed as torch_dist
import torch.nn as nn
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmengine import dist
from torch import Tensor

from .numerics import at_least_float32
from .options import check_choice, check_ranges

PAIRS = ('distinct', 'all_entries')
# Coincident points keep this distance (the official code's, after the root).
MIN_DISTANCE = 1e-6


def pairwise_distances(embeddings: Tensor) -> Tensor:
    """Euclidean distances of all pairs, from differences.

    The Gram identity loses every digit for pooled post-ReLU features, whose
    mean is large against their spread.

    Args:
        embeddings (Tensor): (B, D).

    Returns:
        Tensor: (B, B), with a zero diagonal.
    """
    return torch.cdist(
        embeddings, embeddings, compute_mode='donot_use_mm_for_euclid_dist'
    )


def rkd_distance_loss(
    student: Tensor, teacher: Tensor, pairs: str = 'distinct'
) -> Tensor:
    """Smooth-L1 between mean-normalised pairwise distances (Eq. 13).

    Args:
        student (Tensor): Embeddings, (B, D_s).
        teacher (Tensor): Embeddings, (B, D_t).
        pairs (str): ``'distinct'``: mean over the distinct pairs, as in the
            paper; ``'all_entries'``: mean over all B * B entries, the zero
            diagonal included, as in the official code of RKD.

    Returns:
        Tensor: Scalar; 0, connected to the graph, for fewer than 2 samples.
    """
    check_choice('rkd_distance_loss', 'pairs', pairs, PAIRS)
    student, teacher = at_least_float32(student), at_least_float32(teacher)
    batch = len(student)
    if batch < 2:
        return student.sum() * 0
    rows, columns = torch.triu_indices(batch, batch, 1, device=student.device)

    def relative_distances(embeddings: Tensor) -> Tensor:
        distances = pairwise_distances(embeddings)[rows, columns]
        distances = distances.clamp(min=MIN_DISTANCE)
        return distances / distances.mean()

    loss = F.smooth_l1_loss(
        relative_distances(student), relative_distances(teacher)
    )
    return loss * ((batch - 1) / batch if pairs == 'all_entries' else 1)


def rkd_angle_loss(
    student: Tensor, teacher: Tensor, pairs: str = 'distinct'
) -> Tensor:
    """Smooth-L1 between the cosines of all angles in the batch.

    Args:
        student (Tensor): Embeddings, (B, D_s).
        teacher (Tensor): Embeddings, (B, D_t).
        pairs (str): ``'distinct'``: mean over triples of three different
            samples; ``'all_entries'``: over all B ** 3, as in the official
            code.

    Returns:
        Tensor: Scalar; 0, connected to the graph, for fewer than 3 samples.
    """
    check_choice('rkd_angle_loss', 'pairs', pairs, PAIRS)
    student, teacher = at_least_float32(student), at_least_float32(teacher)
    batch = len(student)
    if batch < 3:
        return student.sum() * 0

    def angles(embeddings: Tensor) -> Tensor:
        edges = embeddings.unsqueeze(0) - embeddings.unsqueeze(1)
        edges = F.normalize(edges, dim=2)  # (B, B, D), by vertex
        return edges @ edges.transpose(1, 2)  # (B, B, B)

    total = F.smooth_l1_loss(
        angles(student), angles(teacher), reduction='none'
    )
    if pairs == 'all_entries':
        return total.mean()
    same = torch.eye(batch, dtype=torch.bool, device=student.device)
    repeated = same[:, :, None] | same[:, None, :] | same[None, :, :]
    return total[~repeated].mean()


class GatherWithGradient(torch.autograd.Function):
    """All ranks' rows, in the order of ranks; the gradient flows to all.

    Backward sums every rank's gradient of the local rows, so that with the
    average that DistributedDataParallel takes afterwards, the parameters get
    the gradient of one loss on the joined batch.
    """

    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        """(B, D) of this rank to (world size * B, D)."""
        rows = rows.contiguous()
        gathered = [
            torch.empty_like(rows) for _ in range(dist.get_world_size())
        ]
        torch_dist.all_gather(gathered, rows)
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        """Sum of the ranks' gradients of this rank's rows."""
        gradient = gradient.contiguous().clone()
        torch_dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


@MODELS.register_module()
class RKDLoss(nn.Module):
    """L_RKD: the geometry of a batch, from teacher to student.

    Args:
        loss_weight (float): gamma of Eq. 14. Defaults to 1.0.
        distance_weight (float): Weight of the distance term, the one of
            Eq. 13. Defaults to 1.0.
        angle_weight (float): Weight of RKD's angle term, which the paper
            leaves out. Defaults to 0.0.
        pairs (str): ``'distinct'`` (paper) or ``'all_entries'`` (official
            RKD code). Defaults to ``'distinct'``.
        gather (bool): Whether to relate the samples of all ranks, not only
            of this one. Every rank must hold equally many. Defaults to
            False.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import RKDLoss
        >>> embedding = torch.randn(4, 8)
        >>> float(RKDLoss()(embedding, 3 * embedding)) < 1e-6
        True
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        distance_weight: float = 1.0,
        angle_weight: float = 0.0,
        pairs: str = 'distinct',
        gather: bool = False,
    ) -> None:
        super().__init__()
        check_ranges(
            'RKDLoss',
            loss_weight=loss_weight,
            distance_weight=distance_weight,
            angle_weight=angle_weight,
        )
        check_choice('RKDLoss', 'pairs', pairs, PAIRS)
        self.loss_weight = loss_weight
        self.distance_weight = distance_weight
        self.angle_weight = angle_weight
        self.pairs = pairs
        self.gather = gather

    def forward(
        self, student_embedding: Tensor, teacher_embedding: Tensor
    ) -> Tensor:
        """Weighted sum of both terms.

        Args:
            student_embedding (Tensor): (B, D_s).
            teacher_embedding (Tensor): (B, D_t).

        Returns:
            Tensor: Scalar.
        """
        # float16 overflows in a sum
        student = at_least_float32(student_embedding)
        teacher = at_least_float32(teacher_embedding.detach())
        if self.gather and dist.get_world_size() > 1:
            student = GatherWithGradient.apply(student)
            teacher = GatherWithGradient.apply(teacher)
        loss = student.sum() * 0
        if self.distance_weight:
            loss = loss + self.distance_weight * rkd_distance_loss(
                student, teacher, self.pairs
            )
        if self.angle_weight:
            loss = loss + self.angle_weight * rkd_angle_loss(
                student, teacher, self.pairs
            )
        return self.loss_weight * loss
