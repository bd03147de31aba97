"""Decoupled knowledge distillation (Zhao, Cui, Song, Qiu, Liang, CVPR 2022).

KD is split by the label: the confidence in the target class (TCKD), and the
    distribution over all other classes (NCKD). In KD the second part has the
    factor 1 - p_c, so a confident teacher suppresses it; here it has its own
    weight.
"""

from typing import Dict, Tuple, Union

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor

from .kd import kl_divergence
from .logit_standardisation import standardise_logits
from .numerics import at_least_float32
from .options import check_ranges
from .schedule import warm_up


def dkd_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    tau: float,
) -> Tuple[Tensor, Tensor]:
    """Computes TCKD and NCKD of every sample.

    ``KL(p || q) = TCKD + (1 - p_c) * NCKD``, with c the label.

    Args:
        student_logits (Tensor): (B, N).
        teacher_logits (Tensor): (B, N).
        labels (Tensor): Target classes, (B,), int64.
        tau (float): Temperature of all softmaxes.

    Returns:
        tuple[Tensor, Tensor]: Each (B,), without the factor ``tau ** 2``.
            For two classes only one other is left: NCKD is 0.
    """
    student_logits = at_least_float32(student_logits)
    teacher_logits = at_least_float32(teacher_logits)
    labels = labels.unsqueeze(1)  # (B, 1)
    # All classes but the label, by index. A mask would need a number that is
    # large for every temperature and representable.
    others = torch.arange(student_logits.shape[1] - 1, device=labels.device)
    others = others + (others >= labels)  # (B, N - 1)

    def target_or_other(logits: Tensor) -> Tensor:
        # The log of 1 - q_c would be log 0 for a confident student.
        log_probs = F.log_softmax(logits / tau, dim=1)
        other = log_probs.gather(1, others).logsumexp(dim=1, keepdim=True)
        return torch.cat([log_probs.gather(1, labels), other], 1)  # (B, 2)

    # Log-probabilities are logits of themselves.
    tckd = kl_divergence(
        target_or_other(teacher_logits), target_or_other(student_logits), 1.0
    )
    teacher_others = teacher_logits.gather(1, others)
    nckd = kl_divergence(
        F.log_softmax(teacher_others / tau, dim=1),
        student_logits.gather(1, others),
        tau,
    )
    return tckd, nckd


def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    alpha: Union[float, Tensor],
    beta: Union[float, Tensor],
    tau: float,
) -> Tensor:
    """Computes the batch mean of ``tau ** 2 * (alpha * TCKD + beta * NCKD)``.

    Args:
        student_logits (Tensor): (B, N).
        teacher_logits (Tensor): (B, N).
        labels (Tensor): Target classes, (B,), int64.
        alpha (float or Tensor): Weight of TCKD, one or (B,).
        beta (float or Tensor): Weight of NCKD, one or (B,).
        tau (float): Temperature.

    Returns:
        Tensor: Scalar.
    """
    tckd, nckd = dkd_terms(student_logits, teacher_logits, labels, tau)
    return tau**2 * (alpha * tckd + beta * nckd).mean()


@MODELS.register_module()
class DKDLoss(nn.Module):
    """Decoupled knowledge distillation on logits.

    Args:
        loss_weight (float): Defaults to 1.0.
        alpha (float): Weight of TCKD. Defaults to 1.0.
        beta (float): Weight of NCKD; the authors use 0.5 to 8, larger values
            for teachers with a better ranking of the other classes. Defaults
            to 2.0.
        tau (float): Temperature. Defaults to 4.0.
        warm_up_epochs (int): Epochs over which the weight grows to its full
            value; the authors use 20 of 240 (CIFAR-100). Defaults to 0.
        standardise (bool): Whether to compare the logits as
            :func:`~.logit_standardisation.standardise_logits` leaves them;
            its authors then use 9 times the weight. Defaults to False.

    Attributes:
        monitors (dict): After a call, ``tckd`` and ``nckd``: means over the
            batch, without weights and ``tau ** 2``.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import DKDLoss
        >>> student, teacher = torch.randn(4, 6), torch.randn(4, 6)
        >>> DKDLoss()(student, teacher, torch.tensor([0, 1, 2, 3])).shape
        torch.Size([])
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        alpha: float = 1.0,
        beta: float = 2.0,
        tau: float = 4.0,
        warm_up_epochs: int = 0,
        standardise: bool = False,
    ) -> None:
        super().__init__()
        check_ranges(
            'DKDLoss',
            loss_weight=loss_weight,
            alpha=alpha,
            beta=beta,
            tau=tau,
            warm_up_epochs=warm_up_epochs,
        )
        self.loss_weight = loss_weight
        self.alpha = alpha
        self.beta = beta
        self.tau = tau
        self.warm_up_epochs = warm_up_epochs
        self.standardise = standardise
        self.monitors: Dict[str, Tensor] = {}

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor
    ) -> Tensor:
        """Computes the weighted :func:`dkd_loss`.

        Args:
            student_logits (Tensor): (B, N).
            teacher_logits (Tensor): (B, N).
            labels (Tensor): Target classes, (B,), int64.

        Returns:
            Tensor: Scalar.
        """
        teacher_logits = teacher_logits.detach()
        if self.standardise:
            student_logits = standardise_logits(student_logits)
            teacher_logits = standardise_logits(teacher_logits)
        with torch.no_grad():
            tckd, nckd = dkd_terms(
                student_logits, teacher_logits, labels, self.tau
            )
            self.monitors = dict(tckd=tckd.mean(), nckd=nckd.mean())
        return (
            self.loss_weight
            * warm_up(self.warm_up_epochs)
            * dkd_loss(
                student_logits,
                teacher_logits,
                labels,
                self.alpha,
                self.beta,
                self.tau,
            )
        )
