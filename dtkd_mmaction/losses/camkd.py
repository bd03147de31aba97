"""Confidence-aware multi-teacher KD (Zhang, Chen and Wang, ICASSP 2022)."""

from typing import Callable, Dict, List, Optional, Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor

from .numerics import at_least_float32
from .options import check_ranges
from .schedule import current_epoch
from .several_teachers import SeveralTeachersLoss, apply_trust, share_out

# From features (B, D) to logits (B, N).
Classifier = Callable[[Tensor], Tensor]
# The feature term begins when the projections follow a first epoch.
FEATURE_EPOCH = 2


def camkd_weights(teacher_logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Computes ``w_k = (1 - softmax_k(CE(z_k, y))) / (K - 1)`` per sample.

    The teacher that is right about the label gets the larger weight.

    Args:
        teacher_logits (Sequence[Tensor]): K tensors of (B, N).
        labels (Tensor): Classes (B,), or soft labels (B, N). A clip of class
            -1 has no label: its teachers share equally.

    Returns:
        Tensor: (B, K), rows sum to one.
    """
    # The error of a clip without a label is 0 for every teacher.
    errors = torch.stack(
        [
            F.cross_entropy(
                at_least_float32(logits),
                labels,
                ignore_index=-1,
                reduction='none',
            )
            for logits in teacher_logits
        ],
        dim=1,
    )
    return share_out(F.softmax(errors, dim=1))


def camkd_feature_loss(
    projected: Sequence[Tensor], teacher: Sequence[Tensor], weights: Tensor
) -> Tensor:
    """Computes ``sum_b sum_k w_bk MSE(projected_bk, teacher_bk) / (B K)``.

    The squared error is the mean over the components, as in the official
    code; the paper prints the squared norm.

    Args:
        projected (Sequence[Tensor]): Features of the student in the space of
            each teacher, K tensors of (B, D_k).
        teacher (Sequence[Tensor]): Features of the teachers, the same
            shapes.
        weights (Tensor): (B, K).

    Returns:
        Tensor: Scalar.
    """
    errors = [
        (at_least_float32(ours) - at_least_float32(theirs)).square().mean(1)
        for ours, theirs in zip(projected, teacher)
    ]
    return (weights * torch.stack(errors, dim=1)).mean()


@MODELS.register_module()
class CAMKDLoss(SeveralTeachersLoss):
    """Distillation from the teachers that are right about the label.

    ``sum_b sum_k w_bk L_bk / (B K)`` with :func:`camkd_weights` and
    ``L_bk = tau ** 2 * KL(teacher_k || student)``. The weights sum to one,
    so the whole loss counts 1 / K of that of one teacher; set
    ``loss_weight`` to K to compare it with losses that do not divide.

    The feature term, off by default, adds ``feature_weight * sum_b sum_k
    w'_bk MSE(proj_k(f_S), f_k) / (B K)``. The features are the inputs of the
    classifiers, ``proj_k`` is a linear layer that trains with the student,
    and ``w'`` judges teacher k by its own classifier on ``proj_k(f_S)``. It
    begins in the second epoch. It needs the teachers themselves, so no
    teacher cache can serve it.

    Args:
        loss_weight (float): Defaults to 1.0.
        tau (float): Temperature. Defaults to 4.0.
        feature_weight (float): Weight of the feature term, relative to that
            of the logits. Defaults to 0.0.
        student_width (int, optional): Width of the student's features; given
            by the distiller.
        teacher_widths (dict[str, int], optional): Those of the teachers.

    Attributes:
        monitors (dict): After a call, ``camkd/<teacher>``: the mean of
            ``w_k``, and ``camkd_feature/<teacher>``: that of ``w'_k``.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import CAMKDLoss
        >>> right, wrong = torch.eye(4), 1 - torch.eye(4)
        >>> loss = CAMKDLoss()
        >>> labels = torch.arange(4)
        >>> value = loss(
        ...     torch.zeros(4, 4), dict(vit=right, cnn=wrong), labels
        ... )
        >>> bool(loss.monitors['camkd/vit'] > loss.monitors['camkd/cnn'])
        True
    """

    NAME = 'camkd'

    def __init__(
        self,
        loss_weight: float = 1.0,
        tau: float = 4.0,
        feature_weight: float = 0.0,
        student_width: Optional[int] = None,
        teacher_widths: Optional[Dict[str, int]] = None,
    ) -> None:
        super().__init__(loss_weight, tau)
        check_ranges('CAMKDLoss', feature_weight=feature_weight)
        self.feature_weight = feature_weight
        self.projections = nn.ModuleDict()
        if feature_weight:
            if student_width is None or not teacher_widths:
                raise ValueError(
                    f'CAMKDLoss(feature_weight={feature_weight}) needs '
                    'student_width and teacher_widths.'
                )
            for name, width in teacher_widths.items():
                self.projections[name] = nn.Linear(student_width, width)

    @staticmethod
    def needs_widths(**options) -> bool:
        """Whether a loss with these options needs the models' widths."""
        return bool(options.get('feature_weight'))

    @property
    def reads_features(self) -> bool:
        """Whether ``forward`` needs features and classifiers."""
        return self.feature_weight > 0

    def weigh(
        self,
        student_logits: Tensor,
        teacher_logits: List[Tensor],
        labels: Optional[Tensor],
    ) -> Tensor:
        """Computes :func:`camkd_weights`.

        Raises:
            ValueError: If there are no labels.
        """
        if labels is None:
            raise ValueError('CAMKDLoss needs the labels of the clips.')
        return camkd_weights(teacher_logits, labels)

    def compare(
        self,
        student_logits: Tensor,
        teacher_logits: List[Tensor],
        weights: Tensor,
    ) -> Tensor:
        """Computes the weighted sum divided by the number of teachers."""
        total = super().compare(student_logits, teacher_logits, weights)
        return total / len(teacher_logits)

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Dict[str, Tensor],
        labels: Optional[Tensor] = None,
        trust: Optional[Tensor] = None,
        student_embedding: Optional[Tensor] = None,
        teacher_embeddings: Optional[Dict[str, Tensor]] = None,
        teacher_classifiers: Optional[Dict[str, Classifier]] = None,
    ) -> Tensor:
        """Computes the weighted loss.

        Args:
            student_logits (Tensor): (B, N).
            teacher_logits (dict[str, Tensor]): Teacher name -> (B, N).
            labels (Tensor, optional): See :func:`camkd_weights`; they must
                be there.
            trust (Tensor, optional): Factor of each teacher's weights, (K,).
            student_embedding (Tensor, optional): (B, D_s); this and what
                follows are for the feature term.
            teacher_embeddings (dict[str, Tensor], optional): Teacher name ->
                (B, D_k).
            teacher_classifiers (dict[str, callable], optional): Teacher name
                -> what turns (B, D_k) into its logits (B, N).

        Returns:
            Tensor: Scalar.
        """
        value = super().forward(student_logits, teacher_logits, labels, trust)
        if not self.reads_features:
            return value
        if not (teacher_embeddings and teacher_classifiers):
            raise ValueError(
                f'CAMKDLoss(feature_weight={self.feature_weight}) needs the '
                'features and classifiers of the teachers.'
            )
        projected = {
            name: self.projections[name](at_least_float32(student_embedding))
            for name in teacher_logits
        }
        with torch.no_grad():
            judged = [
                teacher_classifiers[name](features)
                for name, features in projected.items()
            ]
            weights = apply_trust(camkd_weights(judged, labels), trust)
        for column, name in enumerate(projected):
            self.monitors[f'camkd_feature/{name}'] = weights[:, column].mean()
        term = camkd_feature_loss(
            list(projected.values()),
            [teacher_embeddings[name].detach() for name in projected],
            weights,
        )
        # Not left out: distributed training expects every layer in the graph.
        begun = float(current_epoch() >= FEATURE_EPOCH)
        return value + self.loss_weight * self.feature_weight * begun * term
