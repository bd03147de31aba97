"""Relational knowledge distillation (Eq. 13; Park et al. 2019)."""

from typing import Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .gather_rows import gather_rows
from .numerics import at_least_float32
from .options import check_choice, check_ranges

PAIRS = ('distinct', 'all_entries')
# Distance of coincident points, as in the official code.
MIN_DISTANCE = 1e-6
# Elements of the largest tensor in the computation of the angles.
MAX_ELEMENTS = 2**24


class PairDistances(torch.autograd.Function):
    """Euclidean distances of all pairs, with a backward pass of O(B * D).

    The distances are computed from differences (``torch.pdist``): the Gram
    identity loses all significant digits for pooled post-ReLU features, whose
    mean is large compared with their spread. PyTorch's own backward pass of
    ``pdist`` and ``cdist`` stores (B, B, D) on a GPU; here it is one product
    of (B, B) and (B, D).
    """

    @staticmethod
    def forward(ctx, embeddings: Tensor) -> Tensor:
        """Maps (B, D) to (B * (B - 1) / 2,), as ``torch.triu_indices``."""
        distances = torch.pdist(embeddings)
        ctx.save_for_backward(embeddings, distances)
        return distances

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        """Returns ``sum_j w_ij (x_i - x_j)``, ``w = gradient / distance``."""
        embeddings, distances = ctx.saved_tensors
        batch = len(embeddings)
        rows, columns = torch.triu_indices(
            batch, batch, 1, device=embeddings.device
        )
        # Coincident points have no gradient.
        pull = torch.where(distances > 0, gradient / distances, 0)
        weights = embeddings.new_zeros(batch, batch)
        weights[rows, columns] = pull
        weights = weights + weights.t()
        # Subtracting the mean does not change differences, and it avoids
        # cancellation in the two products.
        centred = embeddings - embeddings.mean(dim=0)
        return weights.sum(dim=1, keepdim=True) * centred - weights @ centred


def rkd_distance_loss(
    student: Tensor, teacher: Tensor, pairs: str = 'distinct'
) -> Tensor:
    """Computes smooth L1 of mean-normalised pairwise distances (Eq. 13).

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

    def relative_distances(embeddings: Tensor) -> Tensor:
        distances = PairDistances.apply(embeddings).clamp(min=MIN_DISTANCE)
        return distances / distances.mean()

    loss = F.smooth_l1_loss(
        relative_distances(student), relative_distances(teacher)
    )
    return loss * ((batch - 1) / batch if pairs == 'all_entries' else 1)


def rkd_angle_loss(
    student: Tensor,
    teacher: Tensor,
    pairs: str = 'distinct',
    max_elements: int = MAX_ELEMENTS,
) -> Tensor:
    """Computes smooth L1 of the cosines of all angles in the batch.

    A large batch is computed in groups of vertices, which are computed again
    in the backward pass, so memory does not grow with B * B * D.

    Args:
        student (Tensor): Embeddings, (B, D_s).
        teacher (Tensor): Embeddings, (B, D_t).
        pairs (str): ``'distinct'``: mean over triples of three different
            samples; ``'all_entries'``: over all B ** 3, as in the official
            code.
        max_elements (int): Largest tensor; groups of vertices are as large
            as it allows. Defaults to :data:`MAX_ELEMENTS`.

    Returns:
        Tensor: Scalar; 0, connected to the graph, for fewer than 3 samples.
    """
    check_choice('rkd_angle_loss', 'pairs', pairs, PAIRS)
    student, teacher = at_least_float32(student), at_least_float32(teacher)
    batch = len(student)
    if batch < 3:
        return student.sum() * 0
    distinct = pairs == 'distinct'
    widest = max(batch, student.shape[1], teacher.shape[1])
    group = max(1, max_elements // (batch * widest))
    count = batch * (batch - 1) * (batch - 2) if distinct else batch**3
    if group >= batch:
        vertices = (0, batch)
        return angle_error(student, teacher, vertices, distinct) / count
    totals = [
        checkpoint(
            angle_error,
            student,
            teacher,
            (first, min(first + group, batch)),
            distinct,
            use_reentrant=False,
            preserve_rng_state=False,
        )
        for first in range(0, batch, group)
    ]
    return torch.stack(totals).sum() / count


def angle_error(
    student: Tensor,
    teacher: Tensor,
    vertices: Tuple[int, int],
    distinct: bool,
) -> Tensor:
    """Sums the smooth-L1 errors of the angles at some vertices.

    Args:
        student (Tensor): Embeddings, (B, D_s).
        teacher (Tensor): Embeddings, (B, D_t).
        vertices (tuple[int, int]): First vertex, and one after the last.
        distinct (bool): Whether only triples of three different samples
            count.

    Returns:
        Tensor: Scalar.
    """
    first, end = vertices

    def angles(embeddings: Tensor) -> Tensor:
        edges = embeddings.unsqueeze(0) - embeddings[first:end].unsqueeze(1)
        edges = F.normalize(edges, dim=2)  # (V, B, D), by vertex
        return edges @ edges.transpose(1, 2)  # (V, B, B)

    errors = F.smooth_l1_loss(
        angles(student), angles(teacher), reduction='none'
    )
    if distinct:
        same = torch.eye(len(student), dtype=torch.bool, device=errors.device)
        at_vertex = same[first:end]  # (V, B)
        repeated = at_vertex[:, :, None] | at_vertex[:, None, :] | same
        errors = errors.masked_fill(repeated, 0)
    return errors.sum()


@MODELS.register_module()
class RKDLoss(nn.Module):
    """L_RKD: relations between the clips of a batch (Eq. 13).

    Args:
        loss_weight (float): gamma of Eq. 14. Defaults to 1.0.
        distance_weight (float): Weight of the distance term, the one of
            Eq. 13. Defaults to 1.0.
        angle_weight (float): Weight of RKD's angle term, which the paper does
            not use. Defaults to 0.0.
        pairs (str): ``'distinct'`` (paper) or ``'all_entries'`` (official
            RKD code). Defaults to ``'distinct'``.
        gather (bool): Whether to relate the samples of all ranks, not only of
            this one. Every rank must have the same number of samples. Defaults
            to False.

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
        """Computes the weighted sum of both terms.

        Args:
            student_embedding (Tensor): (B, D_s).
            teacher_embedding (Tensor): (B, D_t).

        Returns:
            Tensor: Scalar.
        """
        # float16 overflows in a sum
        student = at_least_float32(student_embedding)
        teacher = at_least_float32(teacher_embedding.detach())
        if self.gather:
            student, teacher = gather_rows(student), gather_rows(teacher)
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
