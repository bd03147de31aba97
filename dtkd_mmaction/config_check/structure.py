"""Keys, types and plain values of every section but the model."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from typing import Any, Dict, Iterator, Optional, Tuple

from mmaction.datasets import VideoDataset
from mmaction.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    LOOPS,
    METRICS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
)
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from ..losses.options import COUNT, EPOCHS, WEIGHT, Range
from .findings import Findings, nearest, shown
from .parts import check_part, is_typo, unknown_key_text
from .signatures import arguments_of, find_class
from .trials import tiny_optimizer, tiny_parameters

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# Keys that the runner takes out of a data loader's dict.
LOADER_KEYS = (
    'dataset',
    'num_batch_per_epoch',
    'disable_subprocess_warning',
)
OPTIM_WRAPPER_KEYS = ('optimizer', 'constructor', 'paramwise_cfg')
PARAMWISE_KEYS = (
    'base_lr',
    'base_wd',
    'bias_lr_mult',
    'bias_decay_mult',
    'norm_decay_mult',
    'flat_decay_mult',
    'dwconv_decay_mult',
    'dcn_offset_lr_mult',
    'bypass_duplicate',
    'custom_keys',
)
# Top-level keys that nobody reads are allowed (variables of the config),
# unless one is nearly the name of a key that the runner reads.
TOP_LEVEL_KEYS = (
    *set(arguments_of(Runner).known) - {'cfg', 'data_preprocessor'},
    'custom_imports',
    'check_config',
)
LENGTHS = {EpochBasedTrainLoop: 'max_epochs', IterBasedTrainLoop: 'max_iters'}
# Options of sampling transforms, whose classes do not check them.
SAMPLING = dict(clip_len=COUNT, frame_interval=COUNT, num_clips=COUNT)
SEED = Range(0, 2**32 - 1, whole=True, optional=True)
POSITIVE = Range(0, above=True)
# Dotted keys and the range of their values.
VALUES: Dict[str, Range] = {
    '*_dataloader.batch_size': COUNT,
    '*_dataloader.num_workers': EPOCHS,
    '*_dataloader.num_batch_per_epoch': COUNT._replace(optional=True),
    'train_cfg.max_epochs': COUNT,
    'train_cfg.max_iters': COUNT,
    'train_cfg.val_begin': EPOCHS,
    'train_cfg.val_interval': COUNT,
    'randomness.seed': SEED,
    'optim_wrapper.optimizer.lr': WEIGHT,
    'optim_wrapper.optimizer.weight_decay': WEIGHT,
    'optim_wrapper.optimizer.momentum': WEIGHT,
    'optim_wrapper.accumulative_counts': COUNT,
    'optim_wrapper.clip_grad.max_norm': POSITIVE,
    'default_hooks.logger.interval': COUNT,
    'default_hooks.checkpoint.interval': Range(-1, whole=True),
    'default_hooks.checkpoint.max_keep_ckpts': Range(-1, whole=True),
    'auto_scale_lr.base_batch_size': COUNT,
}


def check_structure(config: Mapping, findings: Findings) -> None:
    """Checks every section but ``model``."""
    _check_top_level(config, findings)
    _check_ranges(config, findings)
    for loader in LOADERS:
        if config.get(loader) is not None:
            _check_loader(config[loader], loader, findings)
    for loop in ('train_cfg', 'val_cfg', 'test_cfg'):
        if config.get(loop) is not None:
            _check_loop(config[loop], loop, findings)
    _check_hooks(config, findings)
    _check_optimizer(config, findings)
    for evaluator in ('val_evaluator', 'test_evaluator'):
        for part, key in _each(config.get(evaluator), evaluator):
            if isinstance(part, Mapping) and 'metrics' not in part:
                check_part(findings, METRICS, part, key, trial={})


def _check_top_level(config: Mapping, findings: Findings) -> None:
    for name in config:
        near = nearest(name, TOP_LEVEL_KEYS)
        if near and is_typo(name, near):
            findings.error(
                name, f'nothing reads this key. Did you mean {near!r}?'
            )
    for name in LOADERS:
        loader = config.get(name)
        if isinstance(loader, Mapping) and 'dataset' not in loader:
            findings.error(f'{name}.dataset', 'it is missing.')


def _each(parts: Any, key: str) -> Iterator[Tuple[Any, str]]:
    """Yields the parts of a list, or a single part, with their keys."""
    if parts is None:
        return
    if isinstance(parts, Sequence) and not isinstance(parts, str):
        for index, part in enumerate(parts):
            yield part, f'{key}.{index}'
    else:
        yield parts, key


def _check_loader(loader: Any, key: str, findings: Findings) -> None:
    if not isinstance(loader, Mapping):
        return  # a DataLoader that a program has built
    known = {*arguments_of(DataLoader).known, *LOADER_KEYS}
    for name in loader:
        if name not in known:
            text = unknown_key_text(name, 'the data loader', known, key)
            inner = key_in_dataset(
                loader.get('dataset'), f'{key}.dataset', name
            )
            if inner is not None:
                text = f'this is a key of the data set. Set {inner}.'
            findings.error(f'{key}.{name}', text)
    workers = loader.get('num_workers', 0)
    if workers == 0:
        for name in ('persistent_workers', 'prefetch_factor'):
            if loader.get(name):
                findings.error(
                    f'{key}.{name}',
                    f'it needs worker processes, but {key}.num_workers is 0. '
                    f'Set {key}.{name} to '
                    f'{"False" if name[:3] == "per" else "None"}, too.',
                    shown(loader[name]),
                )
    sampler = loader.get('sampler')
    if isinstance(sampler, (Mapping, str)):
        check_part(
            findings,
            DATA_SAMPLERS,
            sampler,
            f'{key}.sampler',
            supplied=('dataset', 'seed'),
        )
    dataset = loader.get('dataset')
    if isinstance(dataset, (Mapping, str)):
        check_dataset(dataset, f'{key}.dataset', findings)


def key_in_dataset(dataset: Any, key: str, name: str) -> Optional[str]:
    """Returns where a data set, or one that it wraps, has a key."""
    if not isinstance(dataset, Mapping):
        return None
    part = find_class(DATASETS, dataset.get('type'))
    if part is not None and name in arguments_of(part).known:
        return f'{key}.{name}'
    found = (
        key_in_dataset(inner, inner_key, name)
        for inner, inner_key in inner_datasets(dataset, key)
    )
    return next((place for place in found if place is not None), None)


def inner_datasets(dataset: Any, key: str) -> Iterator[Tuple[Mapping, str]]:
    """Yields the data sets that a wrapper holds directly, with their keys."""
    if not isinstance(dataset, Mapping):
        return
    for name in ('dataset', 'datasets'):
        for inner, inner_key in _each(dataset.get(name), f'{key}.{name}'):
            if isinstance(inner, Mapping):
                yield inner, inner_key


def check_dataset(dataset: Any, key: str, findings: Findings) -> None:
    """Checks a data set, those that it wraps, and their pipelines."""
    known_before = len(findings.problems)
    part = check_part(findings, DATASETS, dataset, key)
    if not isinstance(dataset, Mapping):
        return
    for name in ('dataset', 'datasets'):
        for inner, inner_key in _each(dataset.get(name), f'{key}.{name}'):
            if isinstance(inner, str):
                check_part(findings, DATASETS, inner, inner_key)
    inner = list(inner_datasets(dataset, key))
    # A key of the wrapped data set, written one level too high.
    for i, problem in enumerate(findings.problems[known_before:]):
        name = problem.key[len(key) + 1 :]
        wanted = key_in_dataset(dataset, key, name)
        moved = name in dataset and wanted not in (None, problem.key)
        if part is not None and moved:
            findings.problems[known_before + i] = problem._replace(
                text=f': {part.__name__} wraps another data set, whose keys '
                f'are one level down. Set {wanted}.'
            )
    for config, inner_key in inner:
        check_dataset(config, inner_key, findings)
    if isinstance(part, type) and issubclass(part, VideoDataset):
        _check_prefix(dataset, key, findings)
    pipeline = dataset.get('pipeline')
    if isinstance(pipeline, (Mapping, str)):
        findings.error(
            f'{key}.pipeline', 'it must be a list of dicts.', shown(pipeline)
        )
    elif isinstance(pipeline, Sequence):
        for index, transform in enumerate(pipeline):
            if isinstance(transform, Mapping):
                check_part(
                    findings,
                    TRANSFORMS,
                    transform,
                    f'{key}.pipeline.{index}',
                    trial={},
                )
                for name, allowed in SAMPLING.items():
                    value = transform.get(name, 1)
                    # A dict has one value per modality.
                    if not isinstance(value, Mapping) and value not in allowed:
                        findings.error(
                            f'{key}.pipeline.{index}.{name}',
                            f'it must be {allowed}.',
                            shown(value),
                        )


def _check_prefix(dataset: Mapping, key: str, findings: Findings) -> None:
    prefix = dataset.get('data_prefix', dict(video=''))
    if not isinstance(prefix, Mapping) or 'video' not in prefix:
        findings.error(
            f'{key}.data_prefix',
            'it must be a dict with the folder of the videos: '
            "dict(video='my/videos').",
            shown(prefix),
        )


def _check_loop(loop: Any, key: str, findings: Findings) -> None:
    if not isinstance(loop, Mapping):
        return
    extra = ('by_epoch',) if key == 'train_cfg' else ()
    default = dict(val_cfg='ValLoop', test_cfg='TestLoop').get(key)
    if key == 'train_cfg':
        by_epoch = loop.get('by_epoch', True)
        default = 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop'
    part = check_part(
        findings,
        LOOPS,
        loop,
        key,
        extra=extra,
        supplied=('runner', 'dataloader', 'evaluator'),
        default_type=default,
    )
    # Subclasses pass it on with *args, so they do not seem to need it.
    for base, number in LENGTHS.items():
        if isinstance(part, type) and issubclass(part, base):
            if number not in loop:
                findings.error(
                    f'{key}.{number}',
                    f'it is missing; {part.__name__} needs it.',
                )


def _check_hooks(config: Mapping, findings: Findings) -> None:
    hooks = [
        (hook, f'default_hooks.{name}')
        for name, hook in (config.get('default_hooks') or {}).items()
    ]
    hooks += list(_each(config.get('custom_hooks'), 'custom_hooks'))
    for hook, key in hooks:
        if isinstance(hook, Mapping):
            check_part(
                findings, HOOKS, hook, key, extra=('priority',), trial={}
            )


def _check_optimizer(config: Mapping, findings: Findings) -> None:
    wrapper = config.get('optim_wrapper')
    if isinstance(wrapper, Mapping) and 'optimizer' in wrapper:
        key = 'optim_wrapper'
        check_part(
            findings,
            OPTIM_WRAPPERS,
            wrapper,
            key,
            extra=OPTIM_WRAPPER_KEYS,
            default_type='OptimWrapper',
        )
        if isinstance(wrapper['optimizer'], Mapping):
            check_part(
                findings,
                OPTIMIZERS,
                wrapper['optimizer'],
                f'{key}.optimizer',
                supplied=('params',),
                trial=dict(params=tiny_parameters()),
            )
        paramwise = wrapper.get('paramwise_cfg')
        if isinstance(paramwise, Mapping) and not wrapper.get('constructor'):
            for name in paramwise:
                if name not in PARAMWISE_KEYS:
                    section = f'{key}.paramwise_cfg'
                    findings.error(
                        f'{section}.{name}',
                        unknown_key_text(
                            name, 'paramwise_cfg', PARAMWISE_KEYS, section
                        ),
                    )
    for part, key in _each(config.get('param_scheduler'), 'param_scheduler'):
        if isinstance(part, Mapping) and 'type' in part:
            check_part(
                findings,
                PARAM_SCHEDULERS,
                part,
                key,
                extra=('convert_to_iter_based',),
                supplied=('optimizer',),
                trial=dict(
                    optimizer=tiny_optimizer((wrapper or {}).get('optimizer'))
                ),
            )


def _check_ranges(config: Mapping, findings: Findings) -> None:
    for key, value in _leaves(config):
        for pattern, allowed in VALUES.items():
            if fnmatch(key, pattern) and value not in allowed:
                findings.error(key, f'it must be {allowed}.', shown(value))


def _leaves(config: Mapping, prefix: str = '') -> Iterator[Tuple[str, Any]]:
    """Yields dotted keys and values, at most three levels deep."""
    for name, value in config.items():
        key = f'{prefix}{name}'
        if isinstance(value, Mapping) and key.count('.') < 2:
            yield from _leaves(value, f'{key}.')
        else:
            yield key, value
