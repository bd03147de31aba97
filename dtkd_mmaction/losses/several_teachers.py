"""Base of the losses that weigh the logits of several teachers."""

from typing import Dict, List, Optional, Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .kd import kl_divergence
from .numerics import at_least_float32
from .options import check_ranges


def teacher_divergences(
    student_logits: Tensor, teacher_logits: Sequence[Tensor], tau: float
) -> Tensor:
    """Computes ``KL(teacher || student)`` per sample and teacher.

    Args:
        student_logits (Tensor): (B, N).
        teacher_logits (Sequence[Tensor]): K tensors of (B, N).
        tau (float): Temperature of all softmaxes.

    Returns:
        Tensor: (B, K), without the factor ``tau ** 2``.
    """
    student_logits = at_least_float32(student_logits)
    columns = [
        kl_divergence(
            F.log_softmax(at_least_float32(logits) / tau, dim=1),
            student_logits,
            tau,
        )
        for logits in teacher_logits
    ]
    return torch.stack(columns, dim=1)


def weighted_kd_loss(
    student_logits: Tensor,
    teacher_logits: Sequence[Tensor],
    weights: Tensor,
    tau: float,
) -> Tensor:
    """Computes the weighted sum of one KD loss per teacher.

    ``tau ** 2 * sum_b sum_k w_bk KL_bk / B``.

    Args:
        student_logits (Tensor): (B, N).
        teacher_logits (Sequence[Tensor]): K tensors of (B, N).
        weights (Tensor): (B, K).
        tau (float): Temperature.

    Returns:
        Tensor: Scalar.
    """
    divergences = teacher_divergences(student_logits, teacher_logits, tau)
    return tau**2 * (weights * divergences).sum(dim=1).mean()


def equal_weights(teacher_logits: Sequence[Tensor]) -> Tensor:
    """Returns 1 / K for every sample and teacher, (B, K)."""
    count = len(teacher_logits)
    first = at_least_float32(teacher_logits[0])
    return first.new_full((len(first), count), 1 / count)


def share_out(scores: Tensor) -> Tensor:
    """Returns ``(1 - s_k) / (K - 1)``: the larger its score, the less.

    Args:
        scores (Tensor): Shares of the teachers, (B, K); rows sum to one.

    Returns:
        Tensor: (B, K), rows sum to one; ones for a single teacher.
    """
    count = scores.shape[1]
    if count == 1:
        return torch.ones_like(scores)
    return (1 - scores) / (count - 1)


def apply_trust(weights: Tensor, trust: Optional[Tensor]) -> Tensor:
    """Multiplies the weights by the trust in each teacher.

    The sum of every row stays, so a teacher that loses weight passes it to
    the others. A row that would be left without weight is shared out by the
    trust alone.

    Args:
        weights (Tensor): (B, K).
        trust (Tensor, optional): (K,), not negative. None, or a trust of 0
            in every teacher, changes nothing.

    Returns:
        Tensor: (B, K).
    """
    if trust is None:
        return weights
    trust = trust.to(weights)
    trust = torch.where(trust.sum() > 0, trust, torch.ones_like(trust))
    trusted = weights * trust
    total = trusted.sum(dim=1, keepdim=True)
    shares = torch.where(
        total > 0, trusted / total.clamp(min=1e-30), trust / trust.sum()
    )
    return weights.sum(dim=1, keepdim=True) * shares


class SeveralTeachersLoss(nn.Module):
    """Weighted sum of one KD loss per teacher.

    A subclass computes the weights in :meth:`weigh`; they are constants for
    the gradient. If its losses are not simply added up, it also overrides
    :meth:`compare`.

    Args:
        loss_weight (float): Defaults to 1.0.
        tau (float): Temperature of the distillation. Defaults to 4.0.

    Attributes:
        NAME (str): Prefix of its monitors.
        monitors (dict): After a call, ``<NAME>/<teacher>``: the mean weight
            of each teacher over the batch.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import SeveralTeachersLoss
        >>> class FirstTeacherLoss(SeveralTeachersLoss):
        ...     NAME = 'first'
        ...     def weigh(self, student_logits, teacher_logits, labels):
        ...         return torch.tensor([[1.0, 0.0]] * len(student_logits))
        >>> student, one, two = (torch.randn(4, 5) for _ in range(3))
        >>> loss = FirstTeacherLoss()
        >>> loss(student, dict(one=one, two=two)).shape
        torch.Size([])
        >>> float(loss.monitors['first/two'])
        0.0
    """

    NAME = ''

    def __init__(self, loss_weight: float = 1.0, tau: float = 4.0) -> None:
        super().__init__()
        check_ranges(type(self).__name__, loss_weight=loss_weight, tau=tau)
        self.loss_weight = loss_weight
        self.tau = tau
        self.monitors: Dict[str, Tensor] = {}

    def weigh(
        self,
        student_logits: Tensor,
        teacher_logits: List[Tensor],
        labels: Optional[Tensor],
    ) -> Tensor:
        """Computes the weight of every teacher per sample.

        Args:
            student_logits (Tensor): (B, N).
            teacher_logits (list[Tensor]): K tensors of (B, N).
            labels (Tensor, optional): See :meth:`forward`.

        Returns:
            Tensor: (B, K).
        """
        raise NotImplementedError

    def compare(
        self,
        student_logits: Tensor,
        teacher_logits: List[Tensor],
        weights: Tensor,
    ) -> Tensor:
        """Computes the loss for given weights (B, K), a scalar."""
        return weighted_kd_loss(
            student_logits, teacher_logits, weights, self.tau
        )

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Dict[str, Tensor],
        labels: Optional[Tensor] = None,
        trust: Optional[Tensor] = None,
    ) -> Tensor:
        """Computes the weighted loss.

        Args:
            student_logits (Tensor): (B, N).
            teacher_logits (dict[str, Tensor]): Teacher name -> (B, N).
            labels (Tensor, optional): Classes (B,), -1 for an unlabelled
                clip, or soft labels (B, N). Most methods do not read them.
            trust (Tensor, optional): Factor of each teacher's weight, (K,);
                see :func:`apply_trust`.

        Returns:
            Tensor: Scalar.
        """
        logits = [teacher.detach() for teacher in teacher_logits.values()]
        with torch.no_grad():
            weights = self.weigh(student_logits, logits, labels)
            weights = apply_trust(weights, trust)
        self.monitors = {
            f'{self.NAME}/{name}': weights[:, column].mean()
            for column, name in enumerate(teacher_logits)
        }
        return self.loss_weight * self.compare(student_logits, logits, weights)
