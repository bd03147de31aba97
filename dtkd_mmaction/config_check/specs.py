"""Model specs of a distiller: keys, view, and the config they name."""

from collections.abc import Mapping
from typing import Any, List, NamedTuple, Optional

from mmengine.config import Config

from ..losses.options import Range
from ..recognizers.model_spec import (
    SPEC_KEYS,
    TEACHER_KEYS,
    load_config,
    set_num_classes,
)
from ..teachers.frozen_teacher import FrozenTeacher
from .findings import Findings, shown
from .parts import unknown_key_text
from .pipelines import ClipShape, pair
from .recognizers import PARTS, check_parts, check_recognizer

VIEW_KEYS = ('frames', 'size')


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


def is_spec_argument(name: str) -> bool:
    """Returns whether an argument of a distiller is a model spec."""
    return name in ('student', 'peer', 'teacher', 'teachers') or (
        name.endswith('_teacher') and not name.startswith('rkd')
    )


def specs_of(model: Mapping) -> List[tuple]:
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


def check_spec(
    name: str, key: str, spec: Any, model: Mapping, findings: Findings
) -> SpecOf:
    is_teacher = key not in ('model.student', 'model.peer')
    nothing = SpecOf(name, key, {}, is_teacher, None)
    if not isinstance(spec, dict):
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
    if not isinstance(spec.get('cfg'), (str, dict)):
        findings.error(
            f'{key}.cfg',
            "it must be a path, 'mmaction::recognition/...py' or a model "
            'dict.',
            shown(spec['cfg']) if 'cfg' in spec else '',
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
    _check_names(spec, key, findings)
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
    check_recognizer(config.model, key, findings)
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


def _check_names(spec: Mapping, key: str, findings: Findings) -> None:
    """Checks the types of the names of modules."""
    if not isinstance(spec.get('tap', ''), (str, type(None))):
        findings.error(
            f'{key}.tap',
            "it must be the name of a module, such as 'backbone.layer4'.",
            shown(spec['tap']),
        )
    stages = spec.get('stages')
    if stages is not None and not (
        isinstance(stages, (list, tuple))
        and all(isinstance(name, str) for name in stages)
    ):
        findings.error(
            f'{key}.stages',
            "it must be a list of names of modules: ['backbone.layer3', "
            "'backbone.layer4'].",
            shown(stages),
        )


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
