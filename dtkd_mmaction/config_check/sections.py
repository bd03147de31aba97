"""Sections of a config as a whole: which belong together, their types."""

import inspect
import logging
from collections.abc import Mapping
from typing import Any, Callable, Dict, Tuple

import torch
from mmaction.registry import (
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    VISBACKENDS,
    VISUALIZERS,
)

from ..distillers.base import BaseDistiller
from .findings import Findings, choices_text, nearest, shown
from .parts import check_part, is_typo, unknown_key_text
from .signatures import find_class, registered_names

# Sections without one of which MMEngine's runner refuses the others.
TOGETHER = (
    ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    ('val_dataloader', 'val_cfg', 'val_evaluator'),
    ('test_dataloader', 'test_cfg', 'test_evaluator'),
)
# A config without them is read by tools only, which need no other sections.
OF_A_RUN = ('train_cfg', 'val_cfg', 'test_cfg', 'optim_wrapper')
# Section -> its keys, where no class tells them.
SECTIONS: Dict[str, Tuple[str, ...]] = {
    'randomness': ('seed', 'deterministic', 'diff_rank_seed'),
    'auto_scale_lr': ('enable', 'base_batch_size'),
    'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'),
}
DICTS = (
    'train_dataloader',
    'val_dataloader',
    'test_dataloader',
    'train_cfg',
    'val_cfg',
    'test_cfg',
    'optim_wrapper',
    'default_hooks',
    'custom_imports',
    'visualizer',
    *SECTIONS,
)
LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
MULTIPLIERS = ('lr_mult', 'decay_mult')
CLIP_TYPES: Dict[str, Callable] = dict(
    norm=torch.nn.utils.clip_grad_norm_, value=torch.nn.utils.clip_grad_value_
)
# The hooks of MMEngine's runner under `default_hooks`.
DEFAULT_HOOKS = (
    'runtime_info',
    'timer',
    'sampler_seed',
    'logger',
    'param_scheduler',
    'checkpoint',
    'sync_buffers',
)


def check_sections(config: Mapping, findings: Findings) -> None:
    """Checks the types of the sections, and those without a class."""
    _check_types(config, findings)
    if any(name in config for name in OF_A_RUN):
        _check_scope(config, findings)
        _check_together(config, findings)
    for name, known in SECTIONS.items():
        section = config.get(name)
        for key in section if isinstance(section, Mapping) else ():
            if key not in known:
                findings.error(
                    f'{name}.{key}', unknown_key_text(key, name, known, name)
                )
    for name in config.get('default_hooks') or ():
        near = nearest(name, DEFAULT_HOOKS)
        if near and is_typo(name, near):
            findings.error(
                f'default_hooks.{name}',
                f'it is added to default_hooks.{near} and does not replace '
                f'it. Did you mean default_hooks.{near}?',
            )
    if config.get('visualizer'):
        _check_visualizer(config['visualizer'], findings)
    wrapper = config.get('optim_wrapper')
    if isinstance(wrapper, Mapping):
        _check_clip_grad(wrapper.get('clip_grad'), findings)
        _check_constructor(wrapper, findings)


def _check_together(config: Mapping, findings: Findings) -> None:
    for sections in TOGETHER:
        given = [name for name in sections if config.get(name) is not None]
        missing = [name for name in sections if name not in given]
        if given and missing:
            findings.error(
                missing[0],
                f'it is missing, but {" and ".join(given)} '
                f'{"is" if len(given) == 1 else "are"} given. MMEngine needs '
                f'{", ".join(sections)} together. Set all of them, or none.',
            )


def _check_types(config: Mapping, findings: Findings) -> None:
    for name in DICTS:
        value = config.get(name)
        if value is not None and isinstance(value, (str, int, float, list)):
            findings.error(name, 'it must be a dict.', shown(value))
    if isinstance(config.get('custom_hooks'), (str, Mapping)):
        findings.error(
            'custom_hooks',
            "it must be a list of hooks: [dict(type='FastStudentHook')].",
            shown(config['custom_hooks']),
        )
    level = config.get('log_level', 'INFO')
    if not isinstance(logging.getLevelName(level), int):
        findings.error(
            'log_level',
            "choose 'DEBUG', 'INFO', 'WARNING' or 'ERROR'.",
            shown(level),
        )
    if config.get('launcher', 'none') not in LAUNCHERS:
        findings.error(
            'launcher',
            f'choose one of {LAUNCHERS}.',
            shown(config['launcher']),
        )
    if not isinstance(config.get('resume', False), bool):
        findings.error(
            'resume',
            'it must be True or False. Write a checkpoint to load_from, and '
            'resume=True.',
            shown(config['resume']),
        )
    for name in ('work_dir', 'load_from', 'experiment_name'):
        value = config.get(name)
        if value is not None and not isinstance(value, str):
            findings.error(name, 'it must be a string.', shown(value))


def _check_scope(config: Mapping, findings: Findings) -> None:
    """A distiller is found by its name in MMAction2's scope only."""
    model = config.get('model')
    part = isinstance(model, Mapping) and find_class(MODELS, model.get('type'))
    scope = config.get('default_scope', 'mmengine')
    if (
        isinstance(part, type)
        and issubclass(part, BaseDistiller)
        and scope not in ('mmaction', 'dtkd_mmaction')
    ):
        findings.error(
            'default_scope',
            "it must be 'mmaction', where the models, data sets and hooks of "
            'MMAction2 and of this package are registered.',
            shown(config.get('default_scope')),
        )


def _check_visualizer(visualizer: Any, findings: Findings) -> None:
    check_part(findings, VISUALIZERS, visualizer, 'visualizer')
    backends = isinstance(visualizer, Mapping) and visualizer.get(
        'vis_backends'
    )
    for index, backend in enumerate(backends or ()):
        if isinstance(backend, Mapping):
            check_part(
                findings,
                VISBACKENDS,
                backend,
                f'visualizer.vis_backends.{index}',
                supplied=('save_dir',),
            )


def _check_clip_grad(clip: Any, findings: Findings) -> None:
    if clip is None:
        return
    key = 'optim_wrapper.clip_grad'
    if not isinstance(clip, Mapping) or not clip:
        findings.error(key, 'it must be dict(max_norm=40).', shown(clip))
        return
    function = CLIP_TYPES.get(clip.get('type', 'norm'))
    if function is None:
        findings.error(
            f'{key}.type',
            f'choose one of {tuple(CLIP_TYPES)}.',
            shown(clip['type']),
        )
        return
    known = set(inspect.signature(function).parameters) - {'parameters'}
    for name in clip:
        if name not in known and name != 'type':
            findings.error(
                f'{key}.{name}',
                unknown_key_text(name, 'clip_grad', known, key),
            )


def _check_constructor(wrapper: Mapping, findings: Findings) -> None:
    """Checks the class that gives parameters their learning rates."""
    key = 'optim_wrapper.constructor'
    name = wrapper.get('constructor')
    if name and find_class(OPTIM_WRAPPER_CONSTRUCTORS, name) is None:
        names = registered_names(OPTIM_WRAPPER_CONSTRUCTORS)
        near = nearest(str(name), names)
        findings.error(
            key,
            'nothing is registered under this name. '
            + (f'Did you mean {near!r}? ' if near else '')
            + f'There are {choices_text(names)}.',
            shown(name),
        )
    paramwise = wrapper.get('paramwise_cfg')
    custom = isinstance(paramwise, Mapping) and paramwise.get('custom_keys')
    if name or not isinstance(custom, Mapping):
        return
    for part, options in custom.items():
        inner = f"optim_wrapper.paramwise_cfg.custom_keys['{part}']"
        for option in options if isinstance(options, Mapping) else ():
            near = nearest(option, MULTIPLIERS)
            if option not in MULTIPLIERS and near is not None:
                findings.error(
                    f'{inner}.{option}',
                    f'nothing reads this key. Did you mean {near!r}?',
                )
