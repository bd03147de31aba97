"""Distiller with one teacher and any losses: the compared methods."""

from typing import Dict

from mmaction.registry import MODELS
from torch import Tensor

from ..recognizers.data_samples import labels_of
from .base import BaseDistiller


@MODELS.register_module()
class SingleTeacherDistiller(BaseDistiller):
    """Distils one stock teacher with any set of losses.

    Args:
        student (dict): Model spec (``docs/configs.md``).
        teacher (dict): Model spec.
        losses (dict[str, dict]): Name -> loss config, such as
            ``dict(kd=dict(type='KDLoss', tau=4.0))`` (``docs/methods.md``).
            Its value is logged as ``loss_<name>``.
        **options: ``label_weight``, ``student_transform``, ``teacher_mode``,
            ``teacher_cache``, ``num_classes`` and ``max_gradient_ratio`` of
            :class:`BaseDistiller`.

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
        ...         type='SingleTeacherDistiller',
        ...         student=dict(cfg=small, view=view),
        ...         teacher=dict(cfg=small, checkpoint=None, view=view),
        ...         losses=dict(kd=dict(type='KDLoss', tau=4.0)),
        ...     )
        ... )
        >>> clips = torch.randint(0, 256, (2, 1, 3, 4, 32, 32))
        >>> samples = [ActionDataSample().set_gt_label(i) for i in range(2)]
        >>> losses = distiller.loss(clips, samples)
        >>> sorted(name for name in losses if 'loss' in name)
        ['loss_cls', 'loss_kd']
    """

    def __init__(
        self,
        student: dict,
        teacher: dict,
        losses: Dict[str, dict],
        **options,
    ) -> None:
        super().__init__(
            student, dict(teacher=teacher), losses=losses, **options
        )

    def loss(self, inputs: Tensor, data_samples: list) -> Dict[str, Tensor]:
        """Computes all losses and monitors of one batch.

        Args:
            inputs (Tensor): Raw clips, (B, 1, 3, T, H, W).
            data_samples (list): B samples with labels.

        Returns:
            dict[str, Tensor]: The student's stock losses, ``loss_<name>`` of
                every loss, and ``<name>/<monitor>``.
        """
        teachers = self.teach(inputs, data_samples)
        label_losses, student = self.learn(inputs, data_samples)
        labels = labels_of(data_samples, inputs.device)
        losses = dict(label_losses)
        losses.update(self.further(student, teachers, labels, data_samples))
        return self.limit(losses, label_losses, student, labels)
