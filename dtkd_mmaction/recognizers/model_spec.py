"""Builds stock MMAction2 recognizers from the model specs of a config.

A spec is a dict with the keys :data:`SPEC_KEYS` (``docs/configs.md``). Only
this package knows how MMAction2 builds a model and what its checkpoints look
like.
"""

import copy
import glob
import inspect
import logging
from typing import Any, Dict, Optional, Union

import torch.nn as nn
from mmaction.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

from ..heads.verb_noun_head import VerbNounHead, accept_stock_head
from .weight_match import match_weights

# Arguments of a stock model's parts that name weights to download.
NO_PRETRAINING = dict(
    pretrained=None,
    pretrained2d=False,
    pretrained_type=None,
    clip_pretrained=False,
)
SPEC_KEYS = ('cfg', 'checkpoint', 'view', 'tap', 'stages', 'cfg_options')
# Keys that only a teacher can have.
TEACHER_KEYS = ('speedups', 'optimise', 'precision', 'compile')


def check_spec(spec: dict, key: str) -> None:
    """Raises an error if a spec is invalid; ``key`` is its config key."""
    if not isinstance(spec, dict) or 'cfg' not in spec:
        raise TypeError(
            f"{key} must be a dict with a 'cfg' (a path, "
            f"'mmaction::recognition/...py' or a model dict), got {spec!r}."
        )
    unknown = set(spec) - {*SPEC_KEYS, *TEACHER_KEYS}
    if unknown:
        raise TypeError(
            f'{key} has unknown keys {sorted(unknown)}; known are '
            f'{list(SPEC_KEYS)}, of a teacher also {list(TEACHER_KEYS)}.'
        )


def load_config(spec: dict, key: str) -> Config:
    """Returns the whole config that a spec names, with ``cfg_options``.

    Args:
        spec (dict): The model spec.
        key (str): Config key of the spec, for messages.

    Returns:
        Config: Has ``model``; for a named config also all its other keys.
    """
    source = spec['cfg']
    try:
        if isinstance(source, dict):
            # Building a recognizer modifies the dicts of its parts.
            source = copy.deepcopy(source)
            config = Config(
                source if 'model' in source else dict(model=ConfigDict(source))
            )
        elif '::' in source:
            config = get_config(source)
        else:
            config = Config.fromfile(source)
    except (OSError, ValueError, KeyError) as error:
        raise type(error)(
            f'{key}.cfg={source!r} cannot be read: {error}. '
            "Give a path, 'mmaction::recognition/<family>/"
            "<config>.py' or a model dict."
        ) from error
    if 'model' not in config:
        raise ValueError(f'{key}.cfg={source!r} has no `model`.')
    options = {
        name if name.split('.')[0] in config else f'model.{name}': value
        for name, value in (spec.get('cfg_options') or {}).items()
    }
    config.merge_from_dict(copy.deepcopy(options))
    return config


def set_num_classes(model: dict, num_classes: Optional[int]) -> None:
    """Sets the number of classes of the heads and of any label blending."""
    if num_classes is None:
        return
    head = model['cls_head']
    head['video_classes' if 'video_classes' in head else 'num_classes'] = (
        num_classes
    )
    auxiliary = (model.get('neck') or {}).get('aux_head_cfg')  # TPN
    if auxiliary:
        auxiliary['out_channels'] = num_classes
    blending = (model.get('data_preprocessor') or {}).get('blending')
    for augment in (blending or {}).get('augments', [blending]):
        if augment is not None:
            augment['num_classes'] = num_classes


def forget_pretraining(model: dict) -> None:
    """Removes the weights that parts of a stock model would download.

    The spec's checkpoint replaces them anyway.
    """
    for part in model.values():
        if not isinstance(part, dict):
            continue
        defaults = default_options(part.get('type'))
        for name, value in NO_PRETRAINING.items():
            # Some classes download weights without a key in the config.
            if name in part or defaults.get(name, value) != value:
                part[name] = value
        init_cfg = part.get('init_cfg')
        if isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained':
            part.pop('init_cfg')


def default_options(part_type: Union[str, type, None]) -> Dict[str, Any]:
    """Returns the defaults of the arguments of a class and its bases."""
    if isinstance(part_type, str):
        part_type = MODELS.get(part_type)
    return {
        name: parameter.default
        for base in reversed(getattr(part_type, '__mro__', ()))
        for name, parameter in inspect.signature(
            base.__init__
        ).parameters.items()
    }


def stock_clip(config: Config) -> Dict[str, int]:
    """Returns frames and size of the clips of a stock config.

    Args:
        config (Config): A whole config, or one that has a model only.

    Returns:
        dict: ``frames`` and ``size``; 16 and 224 if they are not defined.
    """
    clip = dict(frames=16, size=224)
    pipeline = (
        config.get('train_pipeline') or config.get('test_pipeline') or []
    )
    for transform in pipeline:
        name = transform['type']
        if name == 'SampleFrames':
            length = transform['clip_len']
            # A 2-D recognizer samples single frames, one per "clip".
            clip['frames'] = (
                length if length > 1 else transform.get('num_clips', 1)
            )
        elif name in ('UniformSample', 'DenseSampleFrames'):
            clip['frames'] = transform.get('num_clips', 1) * transform.get(
                'clip_len', 1
            )
        elif name == 'Resize' and isinstance(
            transform['scale'], (tuple, list)
        ):
            if transform['scale'][0] == transform['scale'][1]:
                clip['size'] = transform['scale'][0]
        elif name in ('RandomCrop', 'CenterCrop', 'ThreeCrop', 'TenCrop'):
            size = transform.get('crop_size', transform.get('size'))
            clip['size'] = size if isinstance(size, int) else size[0]
    return clip


def checkpoint_state_dict(checkpoint: dict) -> Dict[str, Tensor]:
    """Returns the weights in a checkpoint, however it wraps them."""
    state_dict = checkpoint.get('state_dict', checkpoint)
    return {
        name[len('module.') :] if name.startswith('module.') else name: value
        for name, value in state_dict.items()
    }


def find_checkpoint(path: str) -> str:
    """Returns the one file that matches a pattern such as ``x/best_*.pth``.

    Raises:
        FileNotFoundError: If none or several match.
    """
    if '*' not in path:
        return path
    matches = sorted(glob.glob(path))
    if len(matches) != 1:
        raise FileNotFoundError(
            f'the pattern matches {matches or "no file"}, one is needed. '
            'Teachers are trained first (configs/teachers)'
        )
    return matches[0]


def load_weights(
    model: nn.Module, path: str, key: str, whole: bool = False
) -> None:
    """Loads a checkpoint and logs how much of it matched.

    A teacher's checkpoint must match completely, because random weights or
    those of another architecture teach nothing. A student may start without
    its head (other classes, or a pre-training without a head). Other missing
    tensors cause a warning, or an error if most of the model is missing.

    Args:
        model (nn.Module): A stock recognizer.
        path (str): A path, a URL or a pattern (:func:`find_checkpoint`).
        key (str): Config key of the spec, for messages.
        whole (bool): Whether every weight must match. Defaults to False.

    Raises:
        ValueError: If it cannot be read or does not fit the model.
    """
    try:
        checkpoint = CheckpointLoader.load_checkpoint(
            find_checkpoint(path), map_location='cpu'
        )
    except Exception as error:
        raise ValueError(
            f'{key}.checkpoint={path!r} cannot be loaded: {error}'
        ) from error
    offered = checkpoint_state_dict(checkpoint)
    if isinstance(model.cls_head, VerbNounHead):
        accept_stock_head(offered, 'cls_head.')
    match = match_weights(model, offered)
    report = (
        f"{key}.checkpoint={path!r}: {len(match.fitting)} of the model's "
        f'{match.wanted} tensors matched'
    )
    problem = match.problem_of_teacher() if whole else match.problem()
    if problem:
        if any(name.startswith('student.') for name in offered):
            hint = (
                'It is a checkpoint of a distiller: export its student with '
                'tools/export_student.py.'
            )
        else:
            hint = 'Is it a checkpoint of the model that `cfg` names?'
            hint += ' checkpoint=None asks for random weights.' * whole
        raise ValueError(f'{report}. {problem} {hint}')
    model.load_state_dict(match.fitting, strict=False)
    warnings = match.warnings()
    print_log(
        '. '.join([report, *warnings]),
        'current',
        level=logging.WARNING if warnings else logging.INFO,
    )


def build_recognizer(config: Config, key: str) -> nn.Module:
    """Builds the ``model`` of a config as MMAction2 does.

    The config is not changed, although some stock models empty theirs.

    Raises:
        TypeError: If it is not a recognizer with a backbone and a head.
    """
    # A stock model's parts are looked up in the scope of MMAction2.
    with DefaultScope.overwrite_default_scope('mmaction'):
        recognizer = MODELS.build(copy.deepcopy(config.model))
    if not (
        hasattr(recognizer, 'backbone') and hasattr(recognizer, 'cls_head')
    ):
        raise TypeError(
            f'{key}.cfg names a {type(recognizer).__name__}. Student and '
            'teachers are recognizers with a backbone and a cls_head '
            '(Recognizer2D, Recognizer3D).'
        )
    return recognizer
