"""Knowledge distillation for heads with several labels per clip."""

import torch.nn as nn
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor

from .numerics import at_least_float32
from .options import check_ranges


def sigmoid_kd_loss(
    student_logits: Tensor, teacher_logits: Tensor, tau: float
) -> Tensor:
    """Computes ``tau ** 2 * KL(p_T || p_S)`` of each class's Bernoulli.

    ``p = sigmoid(z / tau)``. The mean over classes and batch, as
    ``BCELossWithLogits`` averages.

    Args:
        student_logits (Tensor): (B, N).
        teacher_logits (Tensor): (B, N).
        tau (float): Temperature of both sigmoids.

    Returns:
        Tensor: Scalar.
    """
    student = at_least_float32(student_logits) / tau
    teacher = at_least_float32(teacher_logits) / tau
    positive, negative = teacher.sigmoid(), (-teacher).sigmoid()
    divergence = positive * (F.logsigmoid(teacher) - F.logsigmoid(student))
    divergence = divergence + negative * (
        F.logsigmoid(-teacher) - F.logsigmoid(-student)
    )
    return tau**2 * divergence.mean()


@MODELS.register_module()
class SigmoidKDLoss(nn.Module):
    """Distils the probability of each class, for multi-label heads.

    Heads with ``multi_class=True`` or ``BCELossWithLogits`` score every class
    independently. The softmax over the classes in all other losses on logits
    does not describe what such models predict.

    Args:
        loss_weight (float): Defaults to 1.0.
        tau (float): Temperature. Defaults to 1.0.

    Attributes:
        multi_label (bool): Whether the loss suits multi-label heads.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import SigmoidKDLoss
        >>> logits = torch.randn(4, 6)
        >>> float(SigmoidKDLoss()(logits, logits))
        0.0
    """

    multi_label = True

    def __init__(self, loss_weight: float = 1.0, tau: float = 1.0) -> None:
        super().__init__()
        check_ranges('SigmoidKDLoss', loss_weight=loss_weight, tau=tau)
        self.loss_weight = loss_weight
        self.tau = tau

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor
    ) -> Tensor:
        """Computes the weighted :func:`sigmoid_kd_loss`; both are (B, N)."""
        return self.loss_weight * sigmoid_kd_loss(
            student_logits, teacher_logits.detach(), self.tau
        )
