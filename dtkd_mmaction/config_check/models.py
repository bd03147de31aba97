"""The model of a config: a recognizer, or a distiller with its specs."""

from collections.abc import Mapping
from typing import Any, Dict, List, NamedTuple, Optional

from mmaction.registry import MODELS

from ..distillers.base import BaseDistiller
from ..distillers.dual_teacher import (
    BRANCH_PRESETS,
    RKD_FEATURES,
    RKD_TEACHERS,
)
from ..distillers.fusion_loss import DEFAULT_TYPE, check_fuses
from ..distillers.teacher_checks import (
    TEACHER_MODES,
    name_problem,
    short_name,
)
from ..losses.options import Range, options_out_of_range
from ..modules import StructureDiscrepancyBranch
from .findings import Findings, nearest, shown
from .losses import check_loss
from .parts import (
    BUILDER_KEYS,
    check_keys,
    check_part,
    check_values,
)
from .recognizers import (
    check_parts,
    classes_text,
    head_classes,
    is_multi_label,
)
from .signatures import arguments_of, find_class
from .specs import SpecOf, check_spec, is_spec_argument, specs_of

CHOICES = dict(
    rkd_teacher=RKD_TEACHERS,
    rkd_feature=RKD_FEATURES,
    preset=tuple(BRANCH_PRESETS),
    teacher_mode=TEACHER_MODES,
)
CLASSES = Range(2, whole=True, optional=True)
# Losses over the logits of all teachers.
FUSIONS = ('loss_sr', 'fusion_loss')


class ModelOf(NamedTuple):
    """The model of a run.

    Attributes:
        is_distiller (bool): Whether it has a student and teachers.
        specs (list[SpecOf]): Its models; empty for a recognizer.
        classes (dict[str, int] or None): Classes by part of the head;
            ``{'': count}`` for an ordinary head.
        multi_label (bool): Whether a clip has several labels.
    """

    is_distiller: bool
    specs: List[SpecOf]
    classes: Optional[Dict[str, int]]
    multi_label: bool


def check_model(config: Mapping, findings: Findings) -> ModelOf:
    """Checks ``model`` and describes it for the checks that follow."""
    model = config.get('model')
    nothing = ModelOf(False, [], None, False)
    if not isinstance(model, Mapping):
        if model is None:
            findings.error('model', 'it is missing.')
        return nothing
    part = find_class(MODELS, model.get('type'))
    if not (isinstance(part, type) and issubclass(part, BaseDistiller)):
        check_part(findings, MODELS, model, 'model')
        check_parts(model, 'model', findings)
        head = model.get('cls_head')
        return ModelOf(False, [], head_classes(head), is_multi_label(head))
    specs = _check_distiller(part, model, findings)
    student = next((s for s in specs if s.key == 'model.student'), None)
    if student is None or student.config is None:
        return ModelOf(True, specs, None, False)
    head = student.config.model.get('cls_head')
    classes = head_classes(head)
    for spec in specs:
        _check_same_classes(spec, classes, findings)
    return ModelOf(True, specs, classes, is_multi_label(head))


def _check_distiller(
    part: type, model: Mapping, findings: Findings
) -> List[SpecOf]:
    arguments = arguments_of(part)
    # The constructor of the base class, which the subclasses call.
    hidden = {'teachers'} - set(arguments.own)
    check_keys(findings, part, model, 'model', set(BUILDER_KEYS), hidden)
    _explain_preprocessor(model, findings)
    _check_missing(part, model, findings)
    numbers = {k: v for k, v in model.items() if k in arguments.known}
    wrong = options_out_of_range(numbers)
    for name, allowed in wrong.items():
        findings.error(
            f'model.{name}', f'it must be {allowed}.', shown(model[name])
        )
    if model.get('num_classes') not in CLASSES:
        findings.error(
            'model.num_classes',
            f'it must be {CLASSES}.',
            shown(model['num_classes']),
        )
    for name, choices in CHOICES.items():
        if name in model and model[name] not in choices:
            if name in arguments.known:
                findings.error(
                    f'model.{name}',
                    f'choose one of {choices}.',
                    shown(model[name]),
                )
    rest = {
        k: v
        for k, v in model.items()
        if k not in (*wrong, *CHOICES, 'num_classes')
        and not is_spec_argument(k)
    }
    check_values(findings, part, rest, 'model')
    if 'teachers' in arguments.own:
        _check_teachers(model.get('teachers'), findings)
    specs = [
        check_spec(name, key, spec, model, findings)
        for name, key, spec in specs_of(model)
        if key.split('.')[1] not in hidden
    ]
    teachers = [
        short_name(spec.key.replace('model.', '', 1))
        for spec in specs
        if spec.is_teacher
    ]
    _check_losses(part, model, teachers, findings)
    if isinstance(model.get('branch'), Mapping):
        filled = ('in_channels', 'out_channels')
        check_keys(
            findings,
            StructureDiscrepancyBranch,
            model['branch'],
            'model.branch',
            hidden=filled,
        )
        check_values(
            findings,
            StructureDiscrepancyBranch,
            model['branch'],
            'model.branch',
        )
    if isinstance(model.get('student_transform'), Mapping):
        check_part(
            findings,
            MODELS,
            model['student_transform'],
            'model.student_transform',
        )
    return specs


def _explain_preprocessor(model: Mapping, findings: Findings) -> None:
    """Says where normalisation and blending of a distiller belong."""
    for name in ('data_preprocessor', 'train_cfg', 'blending'):
        key = f'model.{name}'
        if name not in model:
            continue
        for index, problem in enumerate(findings.problems):
            if problem.key == key:
                findings.problems[index] = problem._replace(
                    text=': a distiller has no such key. Every model keeps '
                    'the normalisation of its own config. Mixup and CutMix '
                    'are options of the student: model.student.cfg_options='
                    "{'data_preprocessor.blending': dict(type='MixupBlending'"
                    ', ...)}.'
                )


def _check_missing(part: type, model: Mapping, findings: Findings) -> None:
    for name, parameter in arguments_of(part).own.items():
        if parameter.default is parameter.empty and name not in model:
            findings.error(
                f'model.{name}', f'it is missing; {part.__name__} needs it.'
            )


def _check_teachers(teachers: Any, findings: Findings) -> None:
    """Checks the names of ``model.teachers``."""
    if teachers is None:  # reported as missing
        return
    if not isinstance(teachers, Mapping) or not teachers:
        findings.error(
            'model.teachers',
            'it must be a dict of one or more named model specs, such as '
            "dict(vit=dict(cfg=..., checkpoint='...')).",
            shown(teachers),
        )
        return
    if 'cfg' in teachers:
        findings.error(
            'model.teachers',
            'it looks like one model spec. Give it a name: '
            "teachers=dict(vit=dict(cfg=..., checkpoint='...')).",
        )
        return
    for name in teachers:
        problem = name_problem(name)
        if problem is not None:
            findings.error(f'model.teachers.{name}', problem)


def _check_same_classes(
    spec: SpecOf, classes: Optional[Dict[str, int]], findings: Findings
) -> None:
    if spec.key == 'model.student' or spec.config is None or classes is None:
        return
    found = head_classes(spec.config.model.get('cls_head'))
    if found is not None and found != classes:
        findings.error(
            f'{spec.key}.cfg',
            f'its head has {classes_text(found)}, that of model.student '
            f'{classes_text(classes)}. All models must have the same '
            'classes: set model.num_classes to the classes of your data, '
            'and train the teacher on them (stage one).',
        )


def _check_losses(
    part: type, model: Mapping, teachers: List[str], findings: Findings
) -> None:
    defaults = dict(
        loss_sr=DEFAULT_TYPE,
        fusion_loss=DEFAULT_TYPE,
        loss_sd='StructureDiscrepancyLoss',
        loss_rkd='RKDLoss',
    )
    preset = model.get('preset')
    for name in arguments_of(part).known:
        if (name.startswith('loss_') or name.endswith('_loss')) and isinstance(
            model.get(name), Mapping
        ):
            loss = dict(model[name])
            loss_type = loss.get('type', defaults.get(name))
            loss_class = find_class(MODELS, loss_type)
            if preset in BRANCH_PRESETS and getattr(
                loss_class, 'PRESETS', None
            ):
                loss.setdefault('preset', preset)
            check_loss(loss, f'model.{name}', findings, defaults.get(name))
            if name in FUSIONS:
                _check_fuses(loss_type, f'model.{name}', findings)
    losses = model.get('losses')
    if losses is None:
        return
    if not isinstance(losses, Mapping):  # reported with the other values
        return
    for name, loss in losses.items():
        if loss is None:
            continue
        key = f'model.losses.{name}'
        if 'loss' in name or not name.isidentifier():
            short = name.replace('loss', '').strip('_') or 'kd'
            findings.error(
                key,
                'the name of a loss must be an identifier without "loss" in '
                'it (MMEngine adds every logged value whose name has it to '
                f'the total). Call it {short!r}.',
            )
        check_loss(loss, key, findings, None)
        teacher = isinstance(loss, Mapping) and loss.get('teacher')
        if teacher and teacher not in teachers:
            near = nearest(short_name(str(teacher)), teachers)
            hint = f'Did you mean {near!r}? ' if near else ''
            findings.error(
                f'{key}.teacher',
                f'{hint}Choose one of {teachers}.',
                shown(teacher),
            )
        elif isinstance(loss, Mapping) and not teacher and len(teachers) > 1:
            findings.error(
                f'{key}.teacher',
                f'it is missing; choose one of {teachers}.',
            )


def _check_fuses(loss_type: Any, key: str, findings: Findings) -> None:
    """Refuses a loss that compares with a single teacher."""
    part = find_class(MODELS, loss_type)
    if not isinstance(part, type) or findings.errors_below(f'{key}.type'):
        return
    try:
        check_fuses(part, key)
    except TypeError as error:
        findings.error(f'{key}.type', str(error).split(': ', 1)[-1])
