"""Losses of a config: keys, ranges, and a trial construction."""

from collections.abc import Mapping
from typing import Any, Callable, Dict, Optional

from mmaction.registry import MODELS

from ..distillers.loss_set import (
    OWNERS,
    RECORDED,
    argument_names,
    read_arguments,
)
from ..losses.options import options_out_of_range
from .findings import Findings, shown
from .parts import (
    BUILDER_KEYS,
    check_part,
    preset_names,
    unknown_key_text,
)
from .signatures import arguments_of
from .trials import shapes_of, try_out

LOSS_PACKAGE = 'dtkd_mmaction.losses'
# Methods that DualTeacherDistiller calls of `loss_sd`.
STRUCTURE_METHODS = ('target', 'target_width', 'predict_and_compare')
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
    apart = (*BUILDER_KEYS, *LOSS_KEYS)
    options = (
        {k: v for k, v in loss.items() if k not in apart}
        if isinstance(loss, Mapping)
        else {}
    )
    for name, allowed in options_out_of_range(options).items():
        findings.error(
            f'{key}.{name}', f'it must be {allowed}.', shown(options[name])
        )
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
    _check_parts(part, loss.get('parts'), key, findings)
    _check_inputs(part, key, findings)
    if getattr(part, '__module__', '').startswith(
        LOSS_PACKAGE
    ) and not findings.errors_below(key):
        shapes = shapes_of(part, SHAPES)
        try_out(part, options, key, findings, **shapes)


def _check_inputs(part: Callable, key: str, findings: Findings) -> None:
    """Compares what a loss reads with what the distiller gives it there."""
    name = key.split('.', 1)[1]
    class_name = getattr(part, '__name__', str(part))
    forward = getattr(part, 'forward', None)
    if name.startswith('losses.') and isinstance(part, type):
        try:
            read_arguments(part, key)
        except (TypeError, AttributeError) as error:
            text = str(error).replace(f'{key}: ', '')
            findings.error(f'{key}.type', text, shown(class_name))
    elif name == 'loss_rkd' and forward is not None:
        others = argument_names(forward) & {
            f'{owner}_{quantity}'
            for owner in OWNERS
            for quantity in RECORDED
            if quantity != 'embedding'
        }
        if others:
            findings.error(
                f'{key}.type',
                f'it reads {sorted(others)}, but model.loss_rkd gets one '
                "vector per clip. Use 'RKDLoss' here and write this loss in "
                'model.losses.',
                shown(class_name),
            )
    elif name == 'loss_sd':
        lacking = [m for m in STRUCTURE_METHODS if not hasattr(part, m)]
        if lacking:
            findings.error(
                f'{key}.type',
                f'it has no {", ".join(lacking)}, so it cannot compare the '
                "branch with the teachers. Use 'StructureDiscrepancyLoss' "
                'here and write this loss in model.losses.',
                shown(class_name),
            )


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
