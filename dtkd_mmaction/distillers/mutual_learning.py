"""Deep mutual learning: two students teach each other (Zhang et al. 2018)."""

from typing import Dict, Optional

import torch
from mmaction.registry import MODELS
from torch import Tensor

from ..losses.kd import kd_loss
from ..losses.options import check_ranges
from ..recognizers.class_parts import (
    check_multi_label,
    check_same_parts,
    class_parts,
)
from ..recognizers.clip_view import model_inputs
from ..recognizers.label_loss import label_losses
from ..recognizers.model_spec import load_weights
from .base import BaseDistiller
from .student import build_student


@MODELS.register_module()
class MutualLearningDistiller(BaseDistiller):
    """Trains two stock recognizers that learn from each other's softmax.

    The loss of each is ``CE + loss_weight * KL(other || own)``, without a
    factor for the temperature. Both use the same forward pass, and the
    other's probabilities are constants. Neither is frozen, so the peer is in
    the checkpoint and the optimizer. Only ``student`` is validated and
    exported; ``tools/export_student.py --part peer`` exports the other.

    Args:
        student (dict): Model spec (``docs/configs.md``).
        peer (dict): Model spec of the other model.
        loss_weight (float): Weight of the KL. Defaults to 1.0.
        tau (float): Temperature of both softmaxes. Defaults to 1.0.
        num_classes (int, optional): Classes of both heads, if the named
            configs have others.

    Example:
        >>> import torch
        >>> from mmaction.registry import MODELS
        >>> from mmaction.structures import ActionDataSample
        >>> # Any recognizer; 'mmaction::recognition/...py' names a stock one.
        >>> small = dict(
        ...     type='Recognizer3D',
        ...     backbone=dict(type='X3D', gamma_b=2.25, gamma_d=0.2),
        ...     cls_head=dict(type='X3DHead', in_channels=432, num_classes=4),
        ...     data_preprocessor=dict(
        ...         type='ActionDataPreprocessor', format_shape='NCTHW'
        ...     ),
        ... )
        >>> view = dict(frames=4, size=32)
        >>> distiller = MODELS.build(
        ...     dict(
        ...         type='MutualLearningDistiller',
        ...         student=dict(cfg=small, view=view),
        ...         peer=dict(cfg=small, view=view),
        ...     )
        ... )
        >>> clips = torch.randint(0, 256, (2, 1, 3, 4, 32, 32))
        >>> samples = [ActionDataSample().set_gt_label(i) for i in range(2)]
        >>> losses = distiller.loss(clips, samples)
        >>> sorted(name for name in losses if 'loss' in name)
        ['loss_cls', 'loss_dml', 'peer/loss_cls', 'peer/loss_dml']
    """

    def __init__(
        self,
        student: dict,
        peer: dict,
        loss_weight: float = 1.0,
        tau: float = 1.0,
        num_classes: Optional[int] = None,
    ) -> None:
        check_ranges('model.', loss_weight=loss_weight, tau=tau)
        super().__init__(student, {}, num_classes=num_classes)
        check_multi_label('model', type(self), self.multi_label)
        self.peer, self.peer_view, self.peer_tap = build_student(
            peer, num_classes, 'model.peer'
        )
        self.peer_spec = peer
        if self.peer_tap.num_classes != self.num_classes:
            raise ValueError(
                f'model.peer has {self.peer_tap.num_classes} classes, '
                f'model.student has {self.num_classes}. Set '
                'model.num_classes.'
            )
        check_same_parts(
            'model.peer',
            class_parts(self.peer.cls_head, self.num_classes),
            self.parts,
        )
        self.loss_weight = loss_weight
        self.tau = tau

    def init_weights(self) -> None:
        """Initialises both models and loads both checkpoints."""
        super().init_weights()
        if self.peer_spec.get('checkpoint'):
            load_weights(self.peer, self.peer_spec['checkpoint'], 'model.peer')

    def loss(self, inputs: Tensor, data_samples: list) -> Dict[str, Tensor]:
        """Computes the label losses and divergences of both models.

        Args:
            inputs (Tensor): Raw clips, (B, 1, 3, T, H, W).
            data_samples (list): B samples with labels.

        Returns:
            dict[str, Tensor]: The student's stock losses, ``loss_dml`` (one
                per part of the head), and the same of the peer as
                ``peer/...``.
        """
        losses, student = self.learn(inputs, data_samples)
        clips = model_inputs(self.peer, self.peer_view, inputs, data_samples)
        with self.peer_tap.record(clips) as peer:
            peer_losses = label_losses(
                self.peer,
                clips,
                data_samples,
                'model.peer',
                self.has_unlabelled_clips,
            )
        with torch.autocast(inputs.device.type, enabled=False):
            for part in self.parts:
                name = f'loss_dml{part.suffix}'
                own = part.logits_of(student.logits)
                other = part.logits_of(peer.logits)
                losses[name] = self._divergence(own, other)
                peer_losses[name] = self._divergence(other, own)
        losses.update({f'peer/{k}': v for k, v in peer_losses.items()})
        return losses

    def _divergence(self, own: Tensor, other: Tensor) -> Tensor:
        # kd_loss carries tau ** 2, which mutual learning does not have
        loss = kd_loss(own, other.detach(), self.tau) / self.tau**2
        return self.loss_weight * loss
