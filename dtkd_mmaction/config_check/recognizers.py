"""Recognizers: their parts, and the classes of their heads."""

from collections.abc import Mapping
from typing import Any, Dict, Optional, Set

from mmaction.models import Recognizer2D, Recognizer3D
from mmaction.models.backbones import X3D
from mmaction.registry import MODELS

from .findings import Findings, shown
from .parts import BUILDER_KEYS, check_part
from .signatures import find_class

# Parts of a recognizer whose classes take what the config has.
PARTS = ('backbone', 'neck', 'cls_head', 'data_preprocessor')
# Packages of which a Recognizer2D builds a backbone by itself.
FOREIGN = ('torchvision.', 'timm.', 'mmcls.', 'mmpretrain.')
RGB_CHANNELS = 3


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
    is_x3d = find_class(MODELS, backbone.get('type')) is X3D
    if not is_x3d or in_channels is None:
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


def classes_text(classes: Dict[str, int]) -> str:
    """Returns ``51 classes`` or ``97 verb and 300 noun classes``."""
    parts = [f'{count} {name}'.strip() for name, count in classes.items()]
    return f'{" and ".join(parts)} classes'


def check_recognizer(model: Any, key: str, findings: Findings) -> None:
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
