"""Checkpoints and caches that a config names."""

import functools
import os.path as osp
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional, Tuple

from mmengine.runner.checkpoint import CheckpointLoader

from ..literals import parse_literals
from ..recognizers.model_spec import (
    checkpoint_state_dict,
    find_checkpoint,
    load_config,
)
from .findings import Findings, shown
from .models import ModelOf
from .recognizers import classes_text, head_classes
from .specs import SpecOf


def check_checkpoints(
    config: Mapping, model: ModelOf, findings: Findings
) -> None:
    """Checks that local checkpoints exist and fit the heads of teachers."""
    load_from = config.get('load_from')
    if is_local(load_from) and not osp.isfile(str(load_from)):
        findings.error(
            'load_from', 'there is no such file.', shown(load_from, 200)
        )
    cached = (config.get('model') or {}).get('teacher_cache')
    if isinstance(cached, str) and not osp.isdir(cached):
        findings.error(
            'model.teacher_cache',
            'there is no such folder. Make it with tools/cache_teachers.py.',
            shown(cached, 200),
        )
    for spec in model.specs:
        if spec.is_teacher and cached:
            continue
        checkpoint = spec.spec.get('checkpoint')
        if isinstance(checkpoint, str) and '://' in checkpoint:
            _check_published(spec, findings)
        elif isinstance(checkpoint, str):
            _check_local(spec, checkpoint, findings)
        elif checkpoint is not None:
            findings.error(
                f'{spec.key}.checkpoint',
                'it must be a path, a URL, a pattern or None.',
                shown(checkpoint),
            )


def is_local(path: Any) -> bool:
    return isinstance(path, str) and '://' not in path


def _check_published(spec: SpecOf, findings: Findings) -> None:
    """Refuses a published teacher whose classes are not the student's."""
    if not spec.is_teacher or spec.config is None:
        return
    named = spec.spec['cfg']
    if not isinstance(named, str) or '::' not in named:
        return
    stock = load_config(dict(cfg=named), spec.key)
    before, after = (
        head_classes(c.model.get('cls_head')) for c in (stock, spec.config)
    )
    if before and after and before != after:
        findings.error(
            f'{spec.key}.checkpoint',
            f'the published model has {classes_text(before)}, this run '
            f'{classes_text(after)}: its classifier cannot be used. Train '
            'the teacher on your classes first (stage one, configs/teachers) '
            'and give that checkpoint.',
            shown(spec.spec['checkpoint'], 200),
        )


def _check_local(spec: SpecOf, path: str, findings: Findings) -> None:
    key = f'{spec.key}.checkpoint'
    try:
        found = find_checkpoint(path)
    except FileNotFoundError as error:
        findings.error(key, f'{error}.', shown(path, 200))
        return
    if not osp.isfile(found):
        findings.error(
            key,
            'there is no such file. Teachers are trained first '
            '(configs/teachers).'
            if spec.is_teacher
            else 'there is no such file.',
            shown(path, 200),
        )
        return
    if spec.is_teacher:
        _check_head(spec, found, key, findings)


def _check_head(spec: SpecOf, path: str, key: str, findings: Findings) -> None:
    """Compares the classifier in a checkpoint with the teacher's classes."""
    found = summarise(path)
    if found.error is not None:
        findings.error(
            key, f'it cannot be read: {found.error}', shown(path, 200)
        )
        return
    if found.is_distiller:
        findings.error(
            key,
            'it is the checkpoint of a distillation run. Export its student '
            'with tools/export_student.py and give that file.',
            shown(path, 200),
        )
        return
    classes = spec.config and head_classes(spec.config.model.get('cls_head'))
    if not found.head:
        findings.error(
            key,
            'it holds no classifier (no tensor begins with "cls_head."). A '
            'teacher must be trained on the classes of the student.',
            shown(path, 200),
        )
    elif classes and sum(classes.values()) not in found.head:
        findings.error(
            key,
            f'its classifier has {found.head[-1]} classes, the run '
            f'{classes_text(classes)}. Give a checkpoint that was trained '
            'on the classes of the student, or set model.num_classes.',
            shown(path, 200),
        )


class Summary(NamedTuple):
    """Summary of a checkpoint for the checks.

    Attributes:
        head (tuple[int, ...]): First dimension of every tensor of the
            head, the classifier's last.
        is_distiller (bool): Whether a distillation run wrote it.
        config (str, optional): Text of the config that trained it.
        error (str, optional): Why it cannot be read.
    """

    head: Tuple[int, ...] = ()
    is_distiller: bool = False
    config: Optional[str] = None
    error: Optional[str] = None


def summarise(path: str) -> Summary:
    """Reads a local checkpoint once and keeps a summary of it."""
    return _summarise(path, osp.getmtime(path))


@functools.lru_cache(maxsize=16)
def _summarise(path: str, changed: float) -> Summary:
    try:
        checkpoint = CheckpointLoader.load_checkpoint(
            path, map_location='cpu', logger='silent'
        )
        state = checkpoint_state_dict(checkpoint)
    except Exception as error:
        return Summary(error=str(error))
    config = (checkpoint.get('meta') or {}).get('cfg')
    return Summary(
        tuple(
            value.shape[0]
            for name, value in state.items()
            if name.startswith('cls_head.') and getattr(value, 'ndim', None)
        ),
        any(name.startswith('student.') for name in state),
        config if isinstance(config, str) else None,
    )


def stage_one(spec: SpecOf, files: bool) -> Optional[Tuple[Mapping, str]]:
    """Finds the config with which a teacher's checkpoint was trained.

    Args:
        spec (SpecOf): A teacher.
        files (bool): Whether to look into the checkpoint.

    Returns:
        tuple[dict, str], optional: The config and its name: the named
            config of a published checkpoint, or the one that a checkpoint
            of MMEngine's runner holds. None if neither is there.
    """
    checkpoint = spec.spec.get('checkpoint')
    if not isinstance(checkpoint, str) or spec.config is None:
        return None
    if '://' in checkpoint:
        named = spec.spec['cfg']
        has_clips = 'train_pipeline' in spec.config
        return (spec.config, named) if has_clips else None
    if not files:
        return None
    try:
        path = find_checkpoint(checkpoint)
        text = summarise(path).config
        config = parse_literals(text, path) if text else None
    except (OSError, ValueError):  # reported by the other checks
        return None
    return (config, f'the config in {path}') if config else None
