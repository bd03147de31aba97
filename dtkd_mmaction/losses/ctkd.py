"""Curriculum temperature (Li et al., AAAI 2023): KD with rising difficulty.

The temperature is trained adversarially: it maximises the loss that the
student minimises, with a strength that grows over the first epochs. This is
the authors' global temperature, one for all samples.
"""

import math
from typing import Dict

import torch
import torch.nn as nn
from mmaction.registry import MODELS
from torch import Tensor

from .kd import kd_loss
from .logit_standardisation import standardise_logits
from .options import check_ranges
from .schedule import current_epoch

LOWEST_TAU = 1.0
TAU_RANGE = 20.0


class ScaleGradient(torch.autograd.Function):
    """Identity function that multiplies the gradient by a number.

    A negative number reverses the gradient; the function does not change the
    sign otherwise.
    """

    @staticmethod
    def forward(ctx, tensor: Tensor, scale: float) -> Tensor:
        """Returns ``tensor`` unchanged."""
        ctx.scale = scale
        return tensor.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor):
        """Returns ``scale * gradient``; the scale has no gradient."""
        return ctx.scale * gradient, None


def gradient_scale(epoch: int, decay_epochs: int) -> float:
    """Returns lambda, which falls from 0 to -1 along half a cosine.

    Args:
        epoch (int): Counted from 1.
        decay_epochs (int): First epoch with -1; 0 for -1 in all epochs.

    Returns:
        float: In [-1, 0].
    """
    if epoch >= decay_epochs:
        return -1.0
    return (math.cos(math.pi * epoch / decay_epochs) - 1) / 2


@MODELS.register_module()
class CTKDLoss(nn.Module):
    """Knowledge distillation at an adversarial temperature.

    ``tau = 1 + 20 * sigmoid(theta)`` with theta = 1 at first (tau 15.62).
    theta is an ordinary parameter: the optimizer's learning rate, momentum
    and weight decay act on it, as in the official code.

    Args:
        loss_weight (float): Defaults to 0.9, which the authors use next to a
            label loss of 0.1.
        decay_epochs (int): Epochs until theta gets its full reversed
            gradient. Defaults to 10.
        standardise (bool): Whether to compare the logits as
            :func:`~.logit_standardisation.standardise_logits` leaves them.
            Defaults to False.

    Attributes:
        monitors (dict): After a call, ``tau``.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import CTKDLoss
        >>> student, teacher = torch.randn(4, 6), torch.randn(4, 6)
        >>> CTKDLoss()(student, teacher).shape
        torch.Size([])
    """

    def __init__(
        self,
        loss_weight: float = 0.9,
        decay_epochs: int = 10,
        standardise: bool = False,
    ) -> None:
        super().__init__()
        check_ranges(
            'CTKDLoss', loss_weight=loss_weight, decay_epochs=decay_epochs
        )
        self.loss_weight = loss_weight
        self.decay_epochs = decay_epochs
        self.standardise = standardise
        self.theta = nn.Parameter(torch.ones(()))
        self.monitors: Dict[str, Tensor] = {}

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor
    ) -> Tensor:
        """Computes the weighted :func:`kd_loss`; both logits are (B, N)."""
        teacher_logits = teacher_logits.detach()
        if self.standardise:
            student_logits = standardise_logits(student_logits)
            teacher_logits = standardise_logits(teacher_logits)
        scale = gradient_scale(current_epoch(), self.decay_epochs)
        theta = ScaleGradient.apply(self.theta, scale)
        tau = LOWEST_TAU + TAU_RANGE * theta.sigmoid()
        self.monitors = dict(tau=tau.detach())
        return self.loss_weight * kd_loss(student_logits, teacher_logits, tau)
