"""Any number of teachers, fused by one loss."""

from typing import Dict, Mapping, Optional

from mmaction.registry import MODELS
from torch import Tensor

from ..recognizers.data_samples import labels_of
from .several_teachers import SeveralTeachersDistiller
from .teacher_checks import check_teacher_names

# The weights of the teachers' losses come from DATW (Eq. 3 to 7).
FUSION_LOSS = dict(type='DATWLoss', loss_weight=1.0)


@MODELS.register_module()
class MultiTeacherDistiller(SeveralTeachersDistiller):
    """Distils the logits of one or more stock teachers at once.

    Args:
        student (dict): Model spec (``docs/configs.md``).
        teachers (dict[str, dict]): Name -> model spec, one or more. The
            names appear in the log, such as ``datw/<name>``.
        fusion_loss (dict, optional): Loss over the logits of all teachers:
            :class:`DATWLoss` (default), :class:`AverageKDLoss`,
            :class:`EBKDLoss`, :class:`CAMKDLoss`, :class:`AEKDLoss` or
            :class:`UNICDropLoss`. Its value is logged as ``loss_fusion``.
            None switches it off.
        losses (dict[str, dict], optional): Further losses, as those of
            :class:`SingleTeacherDistiller`, each with ``teacher=<name>``.
        teacher_trust (bool, optional): Whether the fusion is scaled by the
            accuracy above chance of the teachers, measured on the labelled
            clips, as in :class:`DualTeacherDistiller`. Defaults to True,
            for a multi-label head to False.
        max_gradient_ratio (float, optional): See :class:`BaseDistiller`.
            Defaults to 1.0; 0 is no limit.
        **options: ``label_weight``, ``student_transform``, ``teacher_mode``,
            ``teacher_cache`` and ``num_classes`` of :class:`BaseDistiller`.

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
        >>> teacher = dict(cfg=small, checkpoint=None, view=view)
        >>> distiller = MODELS.build(
        ...     dict(
        ...         type='MultiTeacherDistiller',
        ...         student=dict(cfg=small, view=view),
        ...         teachers=dict(one=teacher, two=teacher, three=teacher),
        ...         fusion_loss=dict(type='EBKDLoss'),
        ...     )
        ... )
        >>> clips = torch.randint(0, 256, (2, 1, 3, 4, 32, 32))
        >>> samples = [ActionDataSample().set_gt_label(i) for i in range(2)]
        >>> losses = distiller.loss(clips, samples)
        >>> sorted(name for name in losses if 'loss' in name)
        ['loss_cls', 'loss_fusion']
    """

    def __init__(
        self,
        student: dict,
        teachers: Dict[str, dict],
        fusion_loss: Optional[dict] = FUSION_LOSS,
        losses: Optional[Mapping[str, Optional[dict]]] = None,
        teacher_trust: Optional[bool] = None,
        max_gradient_ratio: Optional[float] = 1.0,
        **options,
    ) -> None:
        check_teacher_names(teachers)
        super().__init__(
            student,
            {f'teachers.{name}': spec for name, spec in teachers.items()},
            losses=losses,
            max_gradient_ratio=max_gradient_ratio,
            **options,
        )
        self._add_fusion(fusion_loss, 'model.fusion_loss', 'loss_fusion')
        self._add_trust(teacher_trust, default=True)

    def loss(self, inputs: Tensor, data_samples: list) -> Dict[str, Tensor]:
        """Computes all losses and monitors of one batch.

        Args:
            inputs (Tensor): Raw clips, (B, 1, 3, T, H, W).
            data_samples (list): B samples with labels.

        Returns:
            dict[str, Tensor]: The student's stock losses, ``loss_fusion``,
                ``loss_<name>`` of the further ones, and monitors, whose
                names do not contain "loss".
        """
        # Teachers first: the student holds no activations yet.
        teachers = self.teach(inputs, data_samples)
        label_losses, student = self.learn(inputs, data_samples)
        labels = labels_of(data_samples, inputs.device)
        trust = self.trust(teachers, labels) if self.trust else None
        losses = dict(label_losses)
        losses.update(self.logits(student, teachers, labels, trust))
        losses.update(self.further(student, teachers, labels, data_samples))
        losses = self.limit(losses, label_losses, student, labels)
        losses.update({f'trust/{n}': v for n, v in (trust or {}).items()})
        return losses
