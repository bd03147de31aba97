"""SimKD: the student keeps the teacher's classifier (Chen et al. 2022)."""

from typing import Dict, Optional

import torch
from mmaction.registry import MODELS
from mmengine.logging import print_log
from torch import Tensor

from ..losses.options import check_ranges
from ..losses.simkd import simkd_loss
from ..modules.head_input import head_input_form, head_input_to_map
from ..recognizers.clip_view import model_inputs
from ..recognizers.model_spec import load_config, set_num_classes
from ..recognizers.nonnegative import head_input_is_nonnegative
from ..recognizers.tapped_recognizer import build_tapped
from ..teachers.frozen_teacher import FrozenTeacher
from .base import BaseDistiller


@MODELS.register_module()
class SimKDDistiller(BaseDistiller):
    """Trains a projector to the teacher's features, without labels.

    The student's stock head is replaced by a
    :class:`~dtkd_mmaction.heads.SimKDHead`: a projector and the teacher's
    frozen classifier, which **stay at inference**. So the export is not the
    stock student: it costs more (logged when the model is built) and its
    config imports this package.

    The projector's shape is the teacher's, so the teacher's architecture is
    built (without weights) with the model, in a test too.

    Args:
        student (dict): Model spec (``docs/configs.md``).
        teacher (dict): Model spec.
        loss_weight (float): Defaults to 1.0.
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
        ...         type='SimKDDistiller',
        ...         student=dict(cfg=small, view=view),
        ...         teacher=dict(cfg=small, checkpoint=None, view=view),
        ...     )
        ... )
        >>> clips = torch.randint(0, 256, (2, 1, 3, 4, 32, 32))
        >>> samples = [ActionDataSample().set_gt_label(i) for i in range(2)]
        >>> sorted(distiller.loss(clips, samples))
        ['loss_simkd']
        >>> type(distiller.student.cls_head).__name__
        'SimKDHead'
    """

    def __init__(
        self,
        student: dict,
        teacher: dict,
        loss_weight: float = 1.0,
        num_classes: Optional[int] = None,
    ) -> None:
        check_ranges('model.', loss_weight=loss_weight)
        super().__init__(
            simkd_student(student, teacher, num_classes),
            dict(teacher=teacher),
            num_classes=num_classes,
        )
        self.teacher_quantities['teacher'].add('head_input')
        self.loss_weight = loss_weight
        head = self.student.cls_head
        added, classifier = (
            sum(p.numel() for p in part.parameters())
            for part in (head.projector, head.classifier)
        )
        print_log(
            'SimKD: the student keeps a projector of '
            f"{added} parameters and the teacher's classifier of "
            f'{classifier} at inference.',
            'current',
        )

    @classmethod
    def exported_student(cls, model: dict, part: str = 'student') -> dict:
        """Returns the spec of the student with its SimKD head."""
        return simkd_student(
            model['student'], model['teacher'], model.get('num_classes')
        )

    def init_weights(self) -> None:
        """Initialises the models, then copies the classifier."""
        super().init_weights()
        self.student.cls_head.classifier.load_state_dict(
            self.teachers['teacher'].recognizer.cls_head.state_dict()
        )

    def loss(self, inputs: Tensor, data_samples: list) -> Dict[str, Tensor]:
        """Computes the squared error of the projected features.

        Args:
            inputs (Tensor): Raw clips, (B, 1, 3, T, H, W).
            data_samples (list): B samples.

        Returns:
            dict[str, Tensor]: ``loss_simkd``.
        """
        teacher = self.teach(inputs, data_samples)['teacher']
        clips = model_inputs(
            self.student, self.student_view, inputs, data_samples
        )
        features, options = self.student.extract_feat(
            clips, data_samples=data_samples
        )
        projected = self.student.cls_head.project(features, **options)
        target = head_input_to_map(teacher.head_input, teacher.shape.frames)
        with torch.autocast(inputs.device.type, enabled=False):
            return dict(
                loss_simkd=self.loss_weight * simkd_loss(projected, target)
            )


def empty_input(teacher: FrozenTeacher) -> Tensor:
    """Returns an input of zeros, of the size of the teacher's view."""
    clip = torch.zeros(1, *teacher.tap.shapes['clip'])  # (1, 3, T, H, W)
    if teacher.view.fold_frames:
        return clip.transpose(1, 2)
    return clip.unsqueeze(1)


def simkd_student(
    student: dict, teacher: dict, num_classes: Optional[int]
) -> dict:
    """Returns the student's spec with a SimKD head as its head."""
    _, _, student_tap = build_tapped(student, num_classes, 'model.student')
    config = load_config(student, 'model.student')
    set_num_classes(config.model, num_classes)
    teacher_config = load_config(teacher, 'model.teacher')
    set_num_classes(teacher_config.model, num_classes)
    frozen = FrozenTeacher(teacher, num_classes, 'model.teacher')
    try:
        form, widths = head_input_form(frozen.tap.head_input)
    except ValueError as error:
        raise ValueError(
            f'model.teacher: SimKD cannot reuse its classifier: {error}'
        ) from error
    head = config.model.cls_head
    config.model.cls_head = dict(
        type='SimKDHead',
        num_classes=student_tap.num_classes,
        in_channels=student_tap.embedding_width,
        teacher_head=teacher_config.model.cls_head,
        form=form,
        widths=widths,
        signed=not head_input_is_nonnegative(frozen.tap, empty_input(frozen)),
        average_clips=head.get('head', head).get('average_clips'),
    )
    spec = {k: v for k, v in student.items() if k != 'cfg_options'}
    return dict(spec, cfg=config.to_dict())
