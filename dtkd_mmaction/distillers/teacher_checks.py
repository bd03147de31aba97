"""Checks whether teachers suit the student and the options."""

from typing import Any, Optional, Sequence

import torch
import torch.nn as nn
from mmengine.logging import print_log

from ..recognizers.class_parts import (
    ClassPart,
    check_same_parts,
    class_parts,
    is_multi_label,
)
from ..teachers.frozen_teacher import FrozenTeacher

TEACHER_MODES = ('eval', 'bn_eval_only')
# Names of the models that learn.
LEARNERS = ('student', 'peer')


def short_name(argument: str) -> str:
    """Returns a teacher's name in logs and losses.

    ``'vit_teacher'`` becomes ``'vit'``, ``'teachers.big'`` becomes ``'big'``
    and ``'teacher'`` stays.
    """
    if argument.startswith('teachers.'):
        return argument[len('teachers.') :]
    return argument.replace('_teacher', '')


def check_teacher_names(teachers: Any) -> None:
    """Raises an error if the teachers are no dict of named model specs.

    Args:
        teachers (dict[str, dict]): ``model.teachers``.

    Raises:
        TypeError: If it is no dict.
        ValueError: If it is empty or a name is not usable.
    """
    if not isinstance(teachers, dict):
        raise TypeError(
            f'model.teachers={teachers!r}: give a dict of names and model '
            'specs, such as dict(vit=dict(cfg=..., checkpoint=...)).'
        )
    if not teachers:
        raise ValueError(
            'model.teachers is empty: give at least one teacher, such as '
            'dict(vit=dict(cfg=..., checkpoint=...)).'
        )
    for name in teachers:
        problem = name_problem(name)
        if problem is not None:
            raise ValueError(f'model.teachers.{name}: {problem}')


def name_problem(name: Any) -> Optional[str]:
    """Returns why a teacher cannot have this name, None if it can."""
    if not isinstance(name, str) or not name.isidentifier():
        return (
            'the name of a teacher must be an identifier, such as vit, '
            'because options and monitors contain it.'
        )
    if name in LEARNERS:
        return 'this is the name of a model that learns. Choose another.'
    if 'loss' in name:
        return (
            'MMEngine adds every logged value whose name contains "loss" to '
            'the total loss. Choose a name without it.'
        )
    return None


def refuse_cache(blending: Optional[object], teacher_mode: str) -> None:
    """Raises an error if the teachers' outputs cannot be cached."""
    if blending is not None:
        raise ValueError(
            "model.teacher_cache: the student's data_preprocessor.blending "
            f'({type(blending).__name__}) mixes clips, so the teachers would '
            'have to see every mixture. Set '
            "model.student.cfg_options={'data_preprocessor.blending': None} "
            'or train without the cache.'
        )
    if teacher_mode != 'eval':
        raise ValueError(
            f'model.teacher_cache: with teacher_mode={teacher_mode!r} the '
            'outputs of a teacher differ from pass to pass.'
        )


def check_same_classes(
    teacher: FrozenTeacher, parts: Sequence[ClassPart], multi_label: bool
) -> None:
    """Raises an error if a teacher has other classes than the student.

    Args:
        teacher (FrozenTeacher): The teacher.
        parts (Sequence[ClassPart]): Parts of the student's head.
        multi_label (bool): Whether the student's head scores every class by
            itself.

    Raises:
        ValueError: If the heads differ in their classes, their parts or
            their kind.
    """
    num_classes = sum(part.count for part in parts)
    head = teacher.recognizer.cls_head
    if teacher.tap.num_classes != num_classes:
        raise ValueError(
            f'{teacher.key} has {teacher.tap.num_classes} classes, '
            f'model.student has {num_classes}. All models must '
            'have the same classes: train the teacher on the '
            "student's data set (stage one) and set "
            'model.num_classes, or cls_head.num_classes in its '
            'cfg_options.'
        )
    check_same_parts(teacher.key, class_parts(head, num_classes), parts)
    if is_multi_label(head) != multi_label:
        raise ValueError(
            f'{teacher.key} and model.student: one has a multi-label head '
            '(multi_class=True or BCELossWithLogits), the other has '
            'not, so their logits mean different things.'
        )


def warn_of_equal_weights(
    student: nn.Module, name: str, teacher: FrozenTeacher
) -> None:
    """Logs a warning if a student starts as a copy of its teacher."""
    if same_backbone(student, teacher.recognizer):
        print_log(
            'model.student starts from the same weights as '
            f'{teacher.key}: their predictions do not differ, so the '
            f'{name} teacher has no weight in DATW at first. Start the '
            'student from its pre-training instead.',
            'current',
            level=30,
        )


def same_backbone(student: nn.Module, teacher: nn.Module) -> bool:
    """Returns whether two recognizers have equal weights below their heads."""
    ours = dict(student.backbone.named_parameters())
    theirs = dict(teacher.backbone.named_parameters())
    return ours.keys() == theirs.keys() and all(
        torch.equal(weight, theirs[name]) for name, weight in ours.items()
    )
