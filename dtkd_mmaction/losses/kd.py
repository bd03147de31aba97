"""Knowledge distillation (Hinton, Eq. 1) and the shared KL divergence."""

from typing import Union

import torch.nn as nn
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor

from .logit_standardisation import standardise_logits
from .numerics import at_least_float32
from .options import check_ranges


def kl_divergence(
    target_log_probs: Tensor,
    student_logits: Tensor,
    tau: Union[float, Tensor],
) -> Tensor:
    """Computes KL(target || student) of every sample.

    Args:
        target_log_probs (Tensor): Log-probabilities at temperature ``tau``,
            (B, N).
        student_logits (Tensor): Logits, (B, N).
        tau (float or Tensor): Temperature of the student's softmax.

    Returns:
        Tensor: One value per sample, (B,), without the factor ``tau ** 2``.
    """
    student_log_probs = F.log_softmax(student_logits / tau, dim=1)
    return F.kl_div(
        student_log_probs, target_log_probs, reduction='none', log_target=True
    ).sum(dim=1)


def kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    tau: Union[float, Tensor],
) -> Tensor:
    """Computes the mean of ``tau ** 2 * KL(teacher || student)`` (Eq. 1).

    Args:
        student_logits (Tensor): (B, N).
        teacher_logits (Tensor): (B, N).
        tau (float or Tensor): Temperature of both softmaxes; the gradient
            reaches a scalar tensor through both of them and the factor.

    Returns:
        Tensor: Scalar.
    """
    student_logits = at_least_float32(student_logits)
    teacher_logits = at_least_float32(teacher_logits)
    target = F.log_softmax(teacher_logits / tau, dim=1)
    return tau**2 * kl_divergence(target, student_logits, tau).mean()


@MODELS.register_module()
class KDLoss(nn.Module):
    """Knowledge distillation on logits (paper: Eq. 1; Hinton et al. 2015).

    Args:
        loss_weight (float): Defaults to 1.0.
        tau (float): Temperature. Defaults to 4.0.
        standardise (bool): Whether to compare the logits as
            :func:`~.logit_standardisation.standardise_logits` leaves them.
            Defaults to False.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import KDLoss
        >>> logits = torch.randn(4, 6)
        >>> float(KDLoss(tau=4.0)(logits, logits))
        0.0
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        tau: float = 4.0,
        standardise: bool = False,
    ) -> None:
        super().__init__()
        check_ranges('KDLoss', loss_weight=loss_weight, tau=tau)
        self.loss_weight = loss_weight
        self.tau = tau
        self.standardise = standardise

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor
    ) -> Tensor:
        """Computes the weighted :func:`kd_loss`; both logits are (B, N)."""
        if self.standardise:
            student_logits = standardise_logits(student_logits)
            teacher_logits = standardise_logits(teacher_logits)
        return self.loss_weight * kd_loss(
            student_logits, teacher_logits.detach(), self.tau
        )
