"""Correlation congruence (Peng et al., ICCV 2019).

The student learns the relations between the samples of a batch. Two
definitions with this name are not equivalent: the kernel matrix of the paper,
and the products of neighbours in the code of RepDistiller (Tian, Krishnan and
Isola, ICLR 2020).
"""

import math

import torch.nn as nn
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor

from ..modules.projections import orthogonal_matrix
from .gather_rows import gather_rows
from .numerics import at_least_float32
from .options import check_choice, check_ranges

FORMS = ('kernel', 'neighbour')


def correlation_matrix(
    embeddings: Tensor, gamma: float = 0.4, order: int = 2
) -> Tensor:
    """Computes the Taylor expansion of the Gaussian kernel of all pairs.

    ``exp(-gamma * |x - y| ** 2) = exp(-2 * gamma) * exp(2 * gamma * x.y)`` for
    unit vectors, so the embeddings are normalised first.

    Args:
        embeddings (Tensor): (B, D).
        gamma (float): Defaults to 0.4.
        order (int): Highest power of ``x.y``. Defaults to 2.

    Returns:
        Tensor: (B, B).
    """
    unit = F.normalize(at_least_float32(embeddings), dim=1)
    cosines = unit @ unit.t()
    return math.exp(-2 * gamma) * sum(
        (2 * gamma) ** power / math.factorial(power) * cosines**power
        for power in range(order + 1)
    )


def cc_loss(
    student: Tensor, teacher: Tensor, gamma: float = 0.4, order: int = 2
) -> Tensor:
    """Computes the mean squared difference of two correlation matrices.

    Args:
        student (Tensor): Embeddings, (B, D_s).
        teacher (Tensor): Embeddings, (B, D_t).
        gamma (float): See :func:`correlation_matrix`.
        order (int): See :func:`correlation_matrix`.

    Returns:
        Tensor: Scalar: the squared Frobenius norm / B ** 2.
    """
    return F.mse_loss(
        correlation_matrix(student, gamma, order),
        correlation_matrix(teacher, gamma, order),
    )


def cc_neighbour_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Computes products of the errors of consecutive samples (RepDistiller).

    It depends on the order of the batch, and is 0 if every second sample
    matches.

    Args:
        student (Tensor): Embeddings, (B, D).
        teacher (Tensor): Embeddings, (B, D).

    Returns:
        Tensor: Scalar: sum over D, mean over the B - 1 neighbours; 0,
            connected to the graph, for fewer than 2 samples.
    """
    error = (at_least_float32(student) - at_least_float32(teacher)).abs()
    if len(error) < 2:
        return error.sum() * 0
    return (error[:-1] * error[1:]).sum(dim=1).mean()


@MODELS.register_module()
class CCLoss(nn.Module):
    """Correlation congruence of embeddings.

    The student's projection is trainable; the teacher's is a fixed orthogonal
    matrix from a seed. Two trainable projections could reach a loss of 0 by
    mapping everything to one point.

    Args:
        loss_weight (float): Defaults to 1.0. RepDistiller uses 0.02 with
            ``form='neighbour'``.
        student_width (int): D of the student's embedding.
        teacher_width (int): D of the teacher's embedding.
        form (str): ``'kernel'``: :func:`cc_loss`; ``'neighbour'``:
            :func:`cc_neighbour_loss`. Defaults to ``'kernel'``.
        dim (int): D of both after the projections. Defaults to 128.
        gamma (float): Parameter of the kernel. Defaults to 0.4.
        order (int): Order of the kernel's expansion. Defaults to 2.
        seed (int): Seed of the teacher's projection. Defaults to 0.
        gather (bool): Whether to relate the samples of all ranks, not only of
            this one. Every rank must have the same number of samples. Defaults
            to False.

    Raises:
        ValueError: For an unknown form.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import CCLoss
        >>> loss = CCLoss(student_width=8, teacher_width=12)
        >>> loss(torch.randn(4, 8), torch.randn(4, 12)).shape
        torch.Size([])
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        *,
        student_width: int,
        teacher_width: int,
        form: str = 'kernel',
        dim: int = 128,
        gamma: float = 0.4,
        order: int = 2,
        seed: int = 0,
        gather: bool = False,
    ) -> None:
        super().__init__()
        check_ranges(
            'CCLoss',
            loss_weight=loss_weight,
            dim=dim,
            gamma=gamma,
            order=order,
            seed=seed,
        )
        check_choice('CCLoss', 'form', form, FORMS)
        self.loss_weight = loss_weight
        self.form = form
        self.gamma = gamma
        self.order = order
        self.gather = gather
        self.embed_student = nn.Linear(student_width, dim)
        self.register_buffer(
            'teacher_matrix', orthogonal_matrix(dim, teacher_width, seed)
        )

    def forward(
        self, student_embedding: Tensor, teacher_embedding: Tensor
    ) -> Tensor:
        """Computes the weighted loss in the chosen form.

        Args:
            student_embedding (Tensor): (B, D_s).
            teacher_embedding (Tensor): (B, D_t).

        Returns:
            Tensor: Scalar.
        """
        student = self.embed_student(at_least_float32(student_embedding))
        teacher = at_least_float32(teacher_embedding.detach())
        teacher = F.linear(teacher, self.teacher_matrix)
        if self.gather:
            student, teacher = gather_rows(student), gather_rows(teacher)
        if self.form == 'neighbour':
            return self.loss_weight * cc_neighbour_loss(student, teacher)
        return self.loss_weight * cc_loss(
            student, teacher, self.gamma, self.order
        )
