"""The model of a config: a recognizer, or a distiller with its specs."""

from collections.abc import Mapping
from typing import Any, Dict, List, NamedTuple, Optional, Set

from mmaction.models import Recognizer2D, Recognizer3D
from mmaction.models.backbones import X3D
from mmaction.registry import MODELS
from mmengine.config import Config

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
from ..recognizers.model_spec import (
    SPEC_KEYS,
    TEACHER_KEYS,
    load_config,
    set_num_classes,
)
from ..teachers.frozen_teacher import FrozenTeacher
from .findings import Findings, nearest, shown
from .losses import check_loss
from .parts import (
    BUILDER_KEYS,
    check_keys,
    check_part,
    check_values,
    unknown_key_text,
)
from .pipelines import ClipShape, pair
from .signatures import arguments_of, find_class

# Parts of a recognizer whose classes take what the config has.
PARTS = ('backbone', 'neck', 'cls_head', 'data_preprocessor')
# Packages of which a Recognizer2D builds a backbone by itself.
FOREIGN = ('torchvision.', 'timm.', 'mmcls.', 'mmpretrain.')
CHOICES = dict(
    rkd_teacher=RKD_TEACHERS,
    rkd_feature=RKD_FEATURES,
    preset=tuple(BRANCH_PRESETS),
    teacher_mode=TEACHER_MODES,
)
CLASSES = Range(2, whole=True, optional=True)
# Losses over the logits of all teachers.
FUSIONS = ('loss_sr', 'fusion_loss')
VIEW_KEYS = ('frames', 'size')
RGB_CHANNELS = 3


class SpecOf(NamedTuple):
    """A model of a distiller.

    Attributes:
        name (str): The argument, such as ``'vit_teacher'``.
        key (str): Its config key.
        spec (dict): The model spec.
        is_teacher (bool): Whether it is frozen.
        config (Config, optional): The named config, with the classes of this
            run; None if it cannot be read.
    """

    name: str
    key: str
    spec: Mapping
    is_teacher: bool
    config: Optional[Config]


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


def check_parts(
    model: Mapping,
    key: str,
    findings: Findings,
    changed: Optional[Set[str]] = None,
) -> None:
    """Checks the parts of a recognizer.

    Args:
        model (dict): The recognizer's config.
        key (str): Its config key.
        findings (Findings): Collects the problems.
        changed (set[str], optional): Dotted keys that ``cfg_options`` of a
            spec set: a problem there is reported under that key.
    """
    own = Findings()
    for name in PARTS:
        part = model.get(name)
        parts = part if isinstance(part, (list, tuple)) else [part]
        for index, config in enumerate(parts):
            number = f'.{index}' if isinstance(part, (list, tuple)) else ''
            type_name = isinstance(config, Mapping) and config.get('type')
            foreign = isinstance(type_name, str) and type_name.startswith(
                FOREIGN
            )
            if type_name and not foreign:
                check_part(own, MODELS, config, f'{key}.{name}{number}')
    for problem in own.problems:
        inner = problem.key[len(key) + 1 :]
        if changed is not None:
            where = 'cfg_options' if inner in changed else 'cfg'
            problem = problem._replace(
                key=f'{key}.{where}: {inner}',
                text=problem.text.replace(
                    f'{key}.', f'{key}.{where}: ' if where == 'cfg' else ''
                ),
            )
        findings.problems.append(problem)
    _check_x3d_width(model, key, findings, changed)


def _check_x3d_width(
    model: Mapping, key: str, findings: Findings, changed: Optional[Set[str]]
) -> None:
    """Compares the width of an X3D with that of its head.

    The stock head expects the width of the published models.
    """
    backbone, head = model.get('backbone'), model.get('cls_head')
    if not isinstance(backbone, Mapping) or not isinstance(head, Mapping):
        return
    in_channels = head.get('in_channels')
    if find_class(MODELS, backbone.get('type')) is not X3D or in_channels is (
        None
    ):
        return
    try:
        options = {k: v for k, v in backbone.items() if k not in BUILDER_KEYS}
        # The depth does not matter; one block per stage is quick to build.
        options.update(pretrained=None, gamma_d=1e-3)
        width = X3D(**options).feat_dim
    except Exception:  # reported by the checks of the backbone
        return
    if in_channels != width:
        where = key if changed is None else f'{key}.cfg_options'
        findings.error(
            f'{where}.cls_head.in_channels',
            f'the backbone gives {width} channels (gamma_w, gamma_b and '
            f'base_channels set them). Set cls_head.in_channels={width}.',
            shown(in_channels),
        )


def head_classes(head: Any) -> Optional[Dict[str, int]]:
    """Returns the classes of a head by part, None if they are unknown."""
    if not isinstance(head, Mapping):
        return None
    count = head.get('video_classes', head.get('num_classes'))
    if isinstance(count, int) and not isinstance(count, bool):
        return {'': count}
    if isinstance(count, (tuple, list)):  # VerbNounHead
        names = ('verb', 'noun')
        return dict(zip(names, count))
    return None


def is_multi_label(head: Any) -> bool:
    """Returns whether a clip of this head has several labels."""
    if not isinstance(head, Mapping):
        return False
    loss = head.get('loss_cls') or {}
    return bool(head.get('multi_class')) or 'BCE' in str(loss.get('type'))


def _check_distiller(
    part: type, model: Mapping, findings: Findings
) -> List[SpecOf]:
    arguments = arguments_of(part)
    # The constructor of the base class, which the subclasses call.
    hidden = {'teachers'} - set(arguments.own)
    check_keys(findings, part, model, 'model', set(BUILDER_KEYS), hidden)
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
        _check_spec(name, key, spec, model, findings)
        for name, key, spec in _specs(model)
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


def _check_missing(part: type, model: Mapping, findings: Findings) -> None:
    for name, parameter in arguments_of(part).own.items():
        if parameter.default is parameter.empty and name not in model:
            findings.error(
                f'model.{name}', f'it is missing; {part.__name__} needs it.'
            )


def is_spec_argument(name: str) -> bool:
    """Returns whether an argument of a distiller is a model spec."""
    return name in ('student', 'peer', 'teacher', 'teachers') or (
        name.endswith('_teacher') and not name.startswith('rkd')
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


def _specs(model: Mapping) -> List[tuple]:
    """Returns (name, key, spec) of every model of a distiller."""
    found = []
    for name, value in model.items():
        if name == 'teachers':
            if not isinstance(value, Mapping):
                continue
            found += [(n, f'model.teachers.{n}', s) for n, s in value.items()]
        elif is_spec_argument(name):
            found.append((name, f'model.{name}', value))
    return found


def _check_spec(
    name: str, key: str, spec: Any, model: Mapping, findings: Findings
) -> SpecOf:
    is_teacher = key not in ('model.student', 'model.peer')
    nothing = SpecOf(name, key, {}, is_teacher, None)
    if not isinstance(spec, Mapping):
        findings.error(
            key,
            "it must be a dict with a 'cfg' (a path, "
            "'mmaction::recognition/...py' or a model dict), such as "
            "dict(cfg='mmaction::recognition/...py', checkpoint='...').",
            shown(spec),
        )
        return nothing
    nothing = nothing._replace(spec=spec)
    _check_spec_keys(spec, key, is_teacher, findings)
    if 'cfg' not in spec:
        findings.error(
            f'{key}.cfg',
            "it is missing. Give a path, 'mmaction::recognition/...py' or a "
            'model dict.',
        )
        return nothing
    if is_teacher and 'checkpoint' not in spec:
        findings.error(
            f'{key}.checkpoint',
            'it is missing. A teacher is a trained model: write its path or '
            'URL (or None, to try things out with random weights).',
        )
    elif is_teacher and not findings.errors_below(key):
        try:
            FrozenTeacher.check_spec(spec, key)
        except (TypeError, ValueError) as error:
            findings.error(key, str(error).replace(f'{key}.', ''))
    _check_view(spec.get('view'), f'{key}.view', findings)
    try:
        config = load_config(spec, key)
    except Exception as error:
        findings.error(
            f'{key}.cfg',
            f'it cannot be read: {error}',
            shown(spec['cfg'], 120),
        )
        return nothing
    options = flattened(spec.get('cfg_options') or {})
    changed = {o[len('model.') :] if o[:6] == 'model.' else o for o in options}
    _check_recognizer(config.model, key, findings)
    if not findings.errors_below(f'{key}.cfg'):
        check_parts(config.model, key, findings, changed)
    if (
        config.get('load_from')
        and not spec.get('checkpoint')
        and (not is_teacher)
    ):
        findings.warn(
            f'{key}.cfg',
            f'its load_from ({config.load_from}) is not used. Write '
            f'{key}.checkpoint to start from these weights.',
        )
    count = model.get('num_classes')
    if isinstance(config.model.get('cls_head'), Mapping) and (
        isinstance(count, int) and not isinstance(count, bool)
    ):
        set_num_classes(config.model, count)
    return SpecOf(name, key, spec, is_teacher, config)


def _check_spec_keys(
    spec: Mapping, key: str, is_teacher: bool, findings: Findings
) -> None:
    known = (*SPEC_KEYS, *TEACHER_KEYS) if is_teacher else SPEC_KEYS
    for name in spec:
        if name in known:
            continue
        text = unknown_key_text(name, 'a model spec', known, key)
        if name in VIEW_KEYS:
            text = f'set {key}.view=dict({name}={spec[name]!r}).'
        elif name in TEACHER_KEYS:
            text = (
                'only a frozen teacher has it. For a model that trains there '
                "is dict(type='FastStudentHook') in custom_hooks."
            )
        elif name == 'num_classes':
            text = 'set model.num_classes, which holds for all models.'
        elif name in (*PARTS, 'model'):
            text = (
                'changes to the named config go to cfg_options: '
                f'{key}.cfg_options={{{name + "...."!r}: ...}}.'
            )
        findings.error(f'{key}.{name}', text)


def _check_view(view: Any, key: str, findings: Findings) -> None:
    if view is None:
        return
    if not isinstance(view, Mapping):
        findings.error(
            key, 'it must be dict(frames=16, size=224).', shown(view)
        )
        return
    for name, value in view.items():
        if name not in VIEW_KEYS:
            findings.error(
                f'{key}.{name}',
                unknown_key_text(name, 'a view', VIEW_KEYS, key),
            )
            continue
        sizes = (
            list(value)
            if name == 'size' and isinstance(value, (tuple, list))
            else [value]
        )
        counts = Range(1, whole=True, optional=True)
        if len(sizes) not in (1, 2) or any(s not in counts for s in sizes):
            text = 'it must be an integer >= 1' + (
                ' or (height, width).' if name == 'size' else '.'
            )
            findings.error(f'{key}.{name}', text, shown(value))


def _check_recognizer(model: Any, key: str, findings: Findings) -> None:
    """Refuses models that do not take video clips."""
    part = isinstance(model, Mapping) and find_class(MODELS, model.get('type'))
    if not part:
        findings.error(
            f'{key}.cfg',
            f'its model has the type {model.get("type")!r}, which is not '
            'registered.'
            if isinstance(model, Mapping)
            else 'its model must be a dict.',
        )
        return
    if not (
        isinstance(part, type)
        and issubclass(part, (Recognizer2D, Recognizer3D))
    ):
        findings.error(
            f'{key}.cfg',
            f'its model is a {part.__name__}, which does not classify video '
            'clips. Students and teachers are recognizers with a backbone '
            'and a cls_head (Recognizer2D, Recognizer3D).',
        )
        return
    backbone = model.get('backbone')
    channels = isinstance(backbone, Mapping) and backbone.get('in_channels')
    if isinstance(channels, int) and channels not in (0, RGB_CHANNELS):
        findings.error(
            f'{key}.cfg',
            f'its backbone takes {channels} input channels '
            f'(backbone.in_channels={channels}), as skeleton heat maps or '
            'optical flow have; the shared video clips have '
            f'{RGB_CHANNELS}. Choose a recognizer for RGB clips.',
        )


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


def classes_text(classes: Dict[str, int]) -> str:
    """Returns ``51 classes`` or ``97 verb and 300 noun classes``."""
    parts = [f'{count} {name}'.strip() for name, count in classes.items()]
    return f'{" and ".join(parts)} classes'


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
    if not isinstance(losses, Mapping):
        findings.error(
            'model.losses',
            "it must be a dict of named losses: dict(kd=dict(type='KDLoss')).",
            shown(losses),
        )
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
            near = nearest(str(teacher), teachers)
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


def flattened(options: Mapping, prefix: str = '') -> List[str]:
    """Returns the dotted keys of nested options."""
    keys: List[str] = []
    for name, value in options.items():
        keys.append(f'{prefix}{name}')
        if isinstance(value, Mapping):
            keys += flattened(value, f'{prefix}{name}.')
    return keys


def seen_clip(spec: SpecOf, clip: ClipShape) -> ClipShape:
    """Returns the clip that a model sees: its view of the shared clip."""
    view = spec.spec.get('view')
    if not isinstance(view, Mapping):
        return clip
    frames = view.get('frames')
    size = pair(view.get('size'))
    return ClipShape(
        frames if isinstance(frames, int) else clip.frames, size or clip.size
    )
