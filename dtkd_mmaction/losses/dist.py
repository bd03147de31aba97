"""DIST: distillation from a stronger teacher (Huang et al., NeurIPS 2022).

Probabilities must correlate instead of being equal: over the classes of a
    sample (inter) and over the samples of a class (intra).
"""

import torch.nn as nn
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor

from .gather_rows import gather_rows
from .numerics import at_least_float32
from .options import check_ranges

# Added to the product of norms, as in the official code. A class that is
# improbable in all samples of the batch is below it and counts as
# uncorrelated.
EPS = 1e-8


def pearson_correlation(one: Tensor, other: Tensor, dim: int) -> Tensor:
    """Computes correlation coefficients along a dimension; 0 for constants.

    Args:
        one (Tensor): (B, N).
        other (Tensor): (B, N).
        dim (int): The dimension that is reduced.

    Returns:
        Tensor: (N,) or (B,).
    """
    one = one - one.mean(dim=dim, keepdim=True)
    other = other - other.mean(dim=dim, keepdim=True)
    norms = one.norm(dim=dim) * other.norm(dim=dim)
    return (one * other).sum(dim=dim) / (norms + EPS)


def dist_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    beta: float,
    gamma: float,
    tau: float,
) -> Tensor:
    """Computes ``tau ** 2 * (beta * inter + gamma * intra)``.

    Args:
        student_logits (Tensor): (B, N).
        teacher_logits (Tensor): (B, N).
        beta (float): Weight of inter: 1 - correlation over classes, mean
            over samples.
        gamma (float): Weight of intra: 1 - correlation over samples, mean
            over classes. For one sample it is 1, without gradient.
        tau (float): Temperature of both softmaxes.

    Returns:
        Tensor: Scalar.
    """
    student = F.softmax(at_least_float32(student_logits) / tau, dim=1)
    teacher = F.softmax(at_least_float32(teacher_logits) / tau, dim=1)
    inter = 1 - pearson_correlation(student, teacher, dim=1).mean()
    intra = 1 - pearson_correlation(student, teacher, dim=0).mean()
    return tau**2 * (beta * inter + gamma * intra)


@MODELS.register_module()
class DISTLoss(nn.Module):
    """DIST: correlation of probabilities over classes and over samples.

    Args:
        loss_weight (float): Defaults to 2.0.
        beta (float): Weight of the classes' term. Defaults to 1.0.
        gamma (float): Weight of the samples' term. Defaults to 1.0.
        tau (float): Temperature; the authors use 4 on CIFAR. Defaults to
            1.0.
        gather (bool): Whether to correlate over the samples of all ranks, not
            only of this one. Every rank must have the same number of samples.
            Defaults to False.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import DISTLoss
        >>> student, teacher = torch.randn(4, 6), torch.randn(4, 6)
        >>> DISTLoss()(student, teacher).shape
        torch.Size([])
    """

    def __init__(
        self,
        loss_weight: float = 2.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        tau: float = 1.0,
        gather: bool = False,
    ) -> None:
        super().__init__()
        check_ranges(
            'DISTLoss',
            loss_weight=loss_weight,
            beta=beta,
            gamma=gamma,
            tau=tau,
        )
        self.loss_weight = loss_weight
        self.beta = beta
        self.gamma = gamma
        self.tau = tau
        self.gather = gather

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor
    ) -> Tensor:
        """Computes the weighted :func:`dist_loss`; both logits are (B, N)."""
        student = at_least_float32(student_logits)
        teacher = at_least_float32(teacher_logits.detach())
        if self.gather:
            student, teacher = gather_rows(student), gather_rows(teacher)
        return self.loss_weight * dist_loss(
            student, teacher, self.beta, self.gamma, self.tau
        )
