"""Teacher dropping of UNIC (Sariyildiz et al., ECCV 2024)."""

from typing import List, Optional

import torch
from mmaction.registry import MODELS
from torch import Tensor

from .options import check_ranges
from .several_teachers import SeveralTeachersLoss, teacher_divergences


def unic_weights(divergences: Tensor, drop_probability: float) -> Tensor:
    """Drops teachers at random, never the one that is hardest to follow.

    Each sample keeps the teacher with the largest loss and drops every other
    one with probability p. The coefficients that remain are divided by their
    sum over the batch, as in the official code.

    Args:
        divergences (Tensor): Loss per sample and teacher, (B, K).
        drop_probability (float): p.

    Returns:
        Tensor: (B, K) in [0, 1]; all entries together sum to B.
    """
    largest = divergences >= divergences.amax(dim=1, keepdim=True)
    survives = torch.rand_like(divergences) >= drop_probability
    kept = (largest | survives).to(divergences)
    return kept * len(kept) / kept.sum()


@MODELS.register_module()
class UNICDropLoss(SeveralTeachersLoss):
    """Distillation with UNIC's teacher dropping.

    Keeps an easy teacher from taking the student over: what it is far from
    always counts, what it has learnt counts now and then. UNIC drops on
    losses of features; here it is ``tau ** 2 * KL(teacher_k || student)``.

    Args:
        loss_weight (float): Defaults to 1.0.
        tau (float): Temperature. Defaults to 4.0.
        drop_probability (float): Probability to drop a teacher that is not
            the one with the largest loss. Defaults to 0.5.

    Attributes:
        monitors (dict): After a call, ``unic/<teacher>``: the share of each
            teacher in the batch.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import UNICDropLoss
        >>> student, vit, cnn = torch.randn(3, 4, 6).unbind()
        >>> loss = UNICDropLoss(drop_probability=1.0)
        >>> value = loss(student, dict(vit=vit, cnn=cnn))
        >>> round(float(sum(loss.monitors.values())), 4)
        1.0
    """

    NAME = 'unic'

    def __init__(
        self,
        loss_weight: float = 1.0,
        tau: float = 4.0,
        drop_probability: float = 0.5,
    ) -> None:
        super().__init__(loss_weight, tau)
        check_ranges('UNICDropLoss', drop_probability=drop_probability)
        self.drop_probability = drop_probability

    def weigh(
        self,
        student_logits: Tensor,
        teacher_logits: List[Tensor],
        labels: Optional[Tensor],
    ) -> Tensor:
        """Computes :func:`unic_weights`."""
        divergences = teacher_divergences(
            student_logits, teacher_logits, self.tau
        )
        return unic_weights(divergences, self.drop_probability)
