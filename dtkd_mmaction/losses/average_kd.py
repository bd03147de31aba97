"""Average of several teachers (You, Xu, Xu and Tao, KDD 2017)."""

from typing import List, Optional

from mmaction.registry import MODELS
from torch import Tensor

from .datw import FUSIONS, datw_loss
from .options import check_choice
from .several_teachers import SeveralTeachersLoss, equal_weights


@MODELS.register_module()
class AverageKDLoss(SeveralTeachersLoss):
    """Distillation from all teachers alike ("AVER").

    ``tau ** 2 / K * sum_k KL(teacher_k || student)``, the mean over the
    batch.

    Args:
        loss_weight (float): Defaults to 1.0.
        tau (float): Temperature. Defaults to 4.0.
        fuse (str): ``'loss'`` (default): the mean of one KD loss per
            teacher, as in the comparisons of CA-MKD. ``'logit'``: one KD
            loss towards the mean of the logits, which is
            ``DATWLoss(score='uniform')``. ``'prob'`` and
            ``'standardised_logit'`` as in
            :func:`~dtkd_mmaction.losses.datw.fused_log_probs`. The gradients
            of ``'loss'`` and ``'prob'`` are equal, and differ from that of
            ``'logit'``.

    Attributes:
        monitors (dict): After a call, ``average/<teacher>``.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import AverageKDLoss
        >>> student, vit, cnn = torch.randn(3, 4, 6).unbind()
        >>> loss = AverageKDLoss(tau=4.0)
        >>> loss(student, dict(vit=vit, cnn=cnn)).shape
        torch.Size([])
        >>> float(loss.monitors['average/vit'])
        0.5
    """

    NAME = 'average'

    def __init__(
        self, loss_weight: float = 1.0, tau: float = 4.0, fuse: str = 'loss'
    ) -> None:
        super().__init__(loss_weight, tau)
        check_choice('AverageKDLoss', 'fuse', fuse, FUSIONS)
        self.fuse = fuse

    def weigh(
        self,
        student_logits: Tensor,
        teacher_logits: List[Tensor],
        labels: Optional[Tensor],
    ) -> Tensor:
        """Returns 1 / K for every teacher."""
        return equal_weights(teacher_logits)

    def compare(
        self,
        student_logits: Tensor,
        teacher_logits: List[Tensor],
        weights: Tensor,
    ) -> Tensor:
        """Computes the loss as the option ``fuse`` says."""
        return datw_loss(
            student_logits, teacher_logits, weights, self.tau, self.fuse
        )
