"""Hinton's knowledge distillation (Eq. 1) and the KL that others share."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision becomes float32, wider types stay as they are.

    Softmax, KL, quantiles and pairwise distances lose their meaning in the
    10 or 7 mantissa bits that automatic mixed precision hands them.
    """
    if tensor.dtype in (torch.float16, torch.bfloat16):
        return tensor.float()
    return tensor


def kl_divergence(
    target_log_probs: Tensor, student_logits: Tensor, tau: float
) -> Tensor:
    """KL(target || student) of every sample.

    Args:
        target_log_probs (Tensor): Log-probabilities at temperature ``tau``,
            (B, N).
        student_logits (Tensor): Logits, (B, N).
        tau (float): Temperature of the student's softmax.

    Returns:
        Tensor: One value a sample, (B,), without the factor ``tau ** 2``.
    """
    student_log_probs = F.log_softmax(student_logits / tau, dim=1)
    return F.kl_div(
        student_log_probs, target_log_probs, reduction='none', log_target=True
    ).sum(dim=1)


def kd_loss(
    student_logits: Tensor, teacher_logits: Tensor, tau: float
) -> Tensor:
    """``tau ** 2 * KL(teacher || student)``, mean over the batch (Eq. 1).

    Args:
        student_logits (Tensor): (B, N).
        teacher_logits (Tensor): (B, N).
        tau (float): Temperature of both softmaxes.

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
    """

    def __init__(self, loss_weight: float = 1.0, tau: float = 4.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.tau = tau

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor
    ) -> Tensor:
        """Weighted :func:`kd_loss`; both logits are (B, N)."""
        return self.loss_weight * kd_loss(
            student_logits, teacher_logits.detach(), self.tau
        )
