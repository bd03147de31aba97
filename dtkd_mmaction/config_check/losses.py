"""Losses of a config: keys, ranges, and a trial construction."""

import inspect
from collections.abc import Mapping
from typing import Any, Callable, Dict, Optional

from mmaction.registry import MODELS

from ..losses.options import options_out_of_range
from .findings import Findings, shown
from .parts import (
    BUILDER_KEYS,
    check_part,
    preset_names,
    unknown_key_text,
)
from .signatures import arguments_of

LOSS_PACKAGE = 'dtkd_mmaction.losses'
# Keys of a loss that the distiller takes out.
LOSS_KEYS = ('teacher', 'parts')
# Shapes that the distiller fills in, small enough to build any loss at once.
SHAPES: Dict[str, Any] = dict(
    student_shape=(8, 2, 4, 4),
    teacher_shape=(8, 2, 4, 4),
    student_shapes=[(8, 2, 8 >> i, 8 >> i) for i in range(4)],
    teacher_shapes=[(8, 2, 8 >> i, 8 >> i) for i in range(4)],
    student_stem_shape=(8, 2, 8, 8),
    teacher_stem_shape=(8, 2, 8, 8),
    student_clip_shape=(3, 2, 16, 16),
    teacher_clip_shape=(3, 2, 16, 16),
    student_width=8,
    teacher_width=8,
    teacher_widths=dict(vit=8, cnn=8),
    num_classes=4,
    channels=dict(student=8, vit=8, cnn=8),
)


def check_loss(
    loss: Any,
    key: str,
    findings: Findings,
    default_type: Optional[str],
) -> None:
    """Checks one loss.

    Args:
        loss (dict): Its config.
        key (str): Its config key.
        findings (Findings): Collects the problems.
        default_type (str, optional): Its type where the config has none.
    """
    part = check_part(
        findings,
        MODELS,
        loss,
        key,
        extra=LOSS_KEYS,
        supplied=SHAPES,
        default_type=default_type,
    )
    if part is None:
        return
    apart = (*BUILDER_KEYS, *LOSS_KEYS)
    options = {k: v for k, v in loss.items() if k not in apart}
    for name, allowed in options_out_of_range(options).items():
        findings.error(
            f'{key}.{name}', f'it must be {allowed}.', shown(options[name])
        )
    _check_parts(part, loss.get('parts'), key, findings)
    if not findings.errors_below(key):
        _try_out(part, options, key, findings)


def _check_parts(
    part: Callable, parts: Any, key: str, findings: Findings
) -> None:
    """Checks options of single parts of a head (``parts=dict(noun=...)``)."""
    if not isinstance(parts, Mapping):
        return
    known = {*arguments_of(part).known, *preset_names(part)}
    for name, options in parts.items():
        if not isinstance(options, Mapping):
            continue
        inner = f'{key}.parts.{name}'
        for option in set(options) - known:
            findings.error(
                f'{inner}.{option}',
                unknown_key_text(option, part.__name__, known, inner),
            )
        for option, allowed in options_out_of_range(options).items():
            findings.error(
                f'{inner}.{option}',
                f'it must be {allowed}.',
                shown(options[option]),
            )


def _try_out(
    part: Callable, options: Mapping, key: str, findings: Findings
) -> None:
    """Builds a loss of this package with small shapes.

    The constructor then checks what only it knows: choices, presets and
    options that exclude each other.
    """
    if not getattr(part, '__module__', '').startswith(LOSS_PACKAGE):
        return
    wanted = inspect.signature(part).parameters
    shapes = {k: v for k, v in SHAPES.items() if k in wanted}
    try:
        part(**{**shapes, **options})
    except Exception as error:
        findings.error(key, f'it cannot be built: {error}')
