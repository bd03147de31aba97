"""Entropy-based KD (Kwon, Na, Lee, Kim and Cho, ICASSP 2020)."""

from typing import List, Optional, Sequence

import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor

from .numerics import at_least_float32
from .several_teachers import SeveralTeachersLoss


def ebkd_weights(teacher_logits: Sequence[Tensor]) -> Tensor:
    """Computes ``w_k = 1 - H_k / sum_j H_j`` per sample.

    ``H_k`` is the entropy of teacher k at temperature 1: the teacher that is
    sure of its answer gets the larger weight.

    Args:
        teacher_logits (Sequence[Tensor]): K tensors of (B, N).

    Returns:
        Tensor: (B, K), rows sum to K - 1. A single teacher has the weight 1.
    """
    entropies = torch.stack(
        [
            torch.special.entr(F.softmax(at_least_float32(x), dim=1)).sum(1)
            for x in teacher_logits
        ],
        dim=1,
    )
    count = entropies.shape[1]
    if count == 1:
        return torch.ones_like(entropies)
    # Teachers that are all certain share equally.
    entropies = entropies.clamp(min=1e-30)
    return 1 - entropies / entropies.sum(dim=1, keepdim=True)


@MODELS.register_module()
class EBKDLoss(SeveralTeachersLoss):
    """Distillation from teachers weighted by their entropy.

    ``sum_b sum_k w_bk L_bk / (B K)`` with :func:`ebkd_weights` and
    ``L_bk = tau ** 2 * KL(teacher_k || student)``. The weights sum to K - 1,
    so the whole loss counts (K - 1) / K of that of one teacher; set
    ``loss_weight`` to K / (K - 1) to compare it with losses whose weights
    sum to one.

    Args:
        loss_weight (float): Defaults to 1.0.
        tau (float): Temperature. Defaults to 4.0.

    Attributes:
        monitors (dict): After a call, ``ebkd/<teacher>``: the mean of
            ``w_k``.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import EBKDLoss
        >>> sure, unsure = torch.eye(4) * 9, torch.eye(4)
        >>> loss = EBKDLoss()
        >>> value = loss(torch.zeros(4, 4), dict(vit=sure, cnn=unsure))
        >>> bool(loss.monitors['ebkd/vit'] > loss.monitors['ebkd/cnn'])
        True
    """

    NAME = 'ebkd'

    def weigh(
        self,
        student_logits: Tensor,
        teacher_logits: List[Tensor],
        labels: Optional[Tensor],
    ) -> Tensor:
        """Computes :func:`ebkd_weights`."""
        return ebkd_weights(teacher_logits)

    def compare(
        self,
        student_logits: Tensor,
        teacher_logits: List[Tensor],
        weights: Tensor,
    ) -> Tensor:
        """Computes the weighted sum divided by the number of teachers."""
        total = super().compare(student_logits, teacher_logits, weights)
        return total / len(teacher_logits)
