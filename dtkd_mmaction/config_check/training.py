"""Steps per epoch, sampling and schedule of a training."""

import os
from collections.abc import Mapping
from typing import Any, Dict, List, Optional

from mmaction.registry import DATA_SAMPLERS, LOOPS, MODELS
from mmengine.dist import get_world_size
from mmengine.runner import EpochBasedTrainLoop

from ..datasets import KeyedViewSampler
from ..datasets.dataset_wrappers import is_keyed, keyed_outside
from ..losses import CRDLoss
from .findings import Findings, shown
from .lists import ListOf
from .signatures import find_class

# The loop that asks for the views of its epoch with any sampler.
NUMBERING_LOOP = 'ResumableTrainLoop'


def check_training(
    config: Mapping, lists: Dict[str, List[ListOf]], findings: Findings
) -> None:
    """Checks what depends on the number of clips."""
    loader = config.get('train_dataloader')
    if not isinstance(loader, Mapping):
        return
    clips = count_clips(loader.get('dataset'), lists['train_dataloader'])
    if clips is not None:
        _check_steps(loader, clips, config, findings)
        _check_memory_banks(config, clips, findings)


def check_sampling(config: Mapping, findings: Findings) -> None:
    """Checks that a data set of numbered views is asked for views."""
    loader = config.get('train_dataloader')
    if not isinstance(loader, Mapping):
        return
    dataset, sampler = loader.get('dataset'), loader.get('sampler')
    if not isinstance(dataset, dict) or not isinstance(sampler, Mapping):
        return
    key = 'train_dataloader'
    loop = find_class(LOOPS, (config.get('train_cfg') or {}).get('type', ''))
    numbers_views = any(
        base.__name__ == NUMBERING_LOOP
        for base in getattr(loop, '__mro__', ())
    )
    try:
        # This loop moves KeyedViewDataset outside of other wrappers.
        outer = keyed_outside(dataset) if numbers_views else dataset
    except ValueError as error:
        findings.error(f'{key}.dataset', str(error))
        return
    part = find_class(DATA_SAMPLERS, sampler.get('type'))
    if not isinstance(part, type):
        return
    keyed, keyed_sampler = is_keyed(outer), issubclass(part, KeyedViewSampler)
    if (
        keyed
        and not keyed_sampler
        and not numbers_views
        and (outer.get('views') != 1)
    ):
        findings.error(
            f'{key}.sampler.type',
            f'it does not tell {key}.dataset (KeyedViewDataset) which view '
            f"is wanted. Use 'KeyedViewSampler', or train_cfg.type="
            f'{NUMBERING_LOOP!r}.',
            shown(sampler['type']),
        )
    if keyed_sampler and not keyed:
        findings.error(
            f'{key}.sampler.type',
            f'it asks for numbered views, but {key}.dataset is a '
            f'{outer.get("type")}. Write {key}.dataset=dict(type='
            "'KeyedViewDataset', dataset=...) around all others, or use "
            "'DefaultSampler'.",
            shown(sampler['type']),
        )
    if keyed and outer.get('kept_in') and outer.get('views') is None:
        findings.error(
            f'{key}.dataset.kept_in',
            f'it needs {key}.dataset.views: without it every epoch draws new '
            'views, and no view comes again.',
            shown(outer['kept_in']),
        )


def count_clips(dataset: Any, lists: List[ListOf]) -> Optional[int]:
    """Returns the length of a data set, None if it is not known."""
    by_config = {id(found.dataset): found for found in lists}

    def count(config: Any) -> Optional[int]:
        if not isinstance(config, Mapping):
            return None
        if id(config) in by_config:
            return len(by_config[id(config)].clips)
        name = str(config.get('type')).split('.')[-1]
        if name in ('KeyedViewDataset', 'RepeatDataset'):
            inner = count(config.get('dataset'))
            times = config.get('times', 1)
            return inner * times if inner is not None else None
        if name == 'ConcatDataset':
            parts = [count(part) for part in config.get('datasets') or []]
            known = [part for part in parts if part is not None]
            return sum(known) if len(known) == len(parts) else None
        return None

    return count(dataset)


def processes(config: Mapping) -> int:
    """Returns the number of processes of the run."""
    if config.get('launcher', 'none') == 'none':
        return 1
    return max(get_world_size(), int(os.environ.get('WORLD_SIZE', 1)))


def _check_steps(
    loader: Mapping, clips: int, config: Mapping, findings: Findings
) -> None:
    batch_size = loader.get('batch_size')
    drop_last = loader.get('drop_last', False)
    if not isinstance(batch_size, int) or batch_size < 1:
        return
    part = find_class(LOOPS, (config.get('train_cfg') or {}).get('type', ''))
    by_epoch = part is None or (
        isinstance(part, type) and issubclass(part, EpochBasedTrainLoop)
    )
    share = -(-clips // processes(config))
    if drop_last and share < batch_size and by_epoch:
        per_process = (
            f' per process ({clips} over {processes(config)} processes)'
            if share != clips
            else ''
        )
        findings.error(
            'train_dataloader.batch_size',
            f'an epoch has 0 steps: there are {share} clips{per_process}, '
            'fewer than one batch, and drop_last=True leaves out incomplete '
            f'batches. Set train_dataloader.batch_size to at most {share}, '
            'or drop_last=False.',
            shown(batch_size),
        )


def _check_memory_banks(
    config: Mapping, clips: int, findings: Findings
) -> None:
    """Compares CRD's memory bank with the data set."""
    losses = (config.get('model') or {}).get('losses')
    for name, loss in (losses if isinstance(losses, Mapping) else {}).items():
        if not isinstance(loss, Mapping):
            continue
        part = find_class(MODELS, loss.get('type'))
        samples = loss.get('num_samples')
        if part is CRDLoss and isinstance(samples, int) and samples != clips:
            reason = (
                'rows that no clip fills stay random and serve as negatives'
                if samples > clips
                else 'the clips behind have no row'
            )
            findings.error(
                f'model.losses.{name}.num_samples',
                f'the training set has {clips} clips; {reason}. Set it to '
                f'{clips}.',
                shown(samples),
            )


def check_schedule(config: Mapping, findings: Findings) -> None:
    """Compares the ends of the schedule with the number of epochs."""
    loop = config.get('train_cfg')
    if not isinstance(loop, Mapping) or loop.get('stretch_schedule'):
        return
    epochs = loop.get('max_epochs')
    schedulers = config.get('param_scheduler') or []
    if isinstance(schedulers, Mapping):
        schedulers = [schedulers]
    if not isinstance(epochs, int) or not isinstance(schedulers, list):
        return
    if isinstance(loop.get('val_begin'), int) and loop['val_begin'] > epochs:
        findings.warn(
            'train_cfg.val_begin',
            f'the training ends after {epochs} epochs (train_cfg.max_epochs) '
            'and never validates. Set it to at most that.',
            shown(loop['val_begin']),
        )
    ends = [
        s['end']
        for s in schedulers
        if isinstance(s, Mapping)
        and s.get('by_epoch', True)
        and isinstance(s.get('end'), int)
    ]
    if not ends or max(ends) == epochs:
        for index, schedule in enumerate(schedulers):
            key = f'param_scheduler.{index}'
            _check_milestones(schedule, key, epochs, findings)
        return
    findings.warn(
        'train_cfg.max_epochs',
        f'the learning rate follows a schedule of {max(ends)} epochs '
        '(param_scheduler.*.end). Set train_cfg.stretch_schedule=True to '
        'fit the schedule to the training (ResumableTrainLoop), or change '
        'end, milestones and T_max of param_scheduler, too.',
        shown(epochs),
    )


def _check_milestones(
    schedule: Any, key: str, epochs: int, findings: Findings
) -> None:
    """Warns of milestones that a training by epochs does not reach."""
    if not isinstance(schedule, Mapping) or not schedule.get('by_epoch', True):
        return
    milestones = schedule.get('milestones')
    if not isinstance(milestones, (list, tuple)):
        return
    late = [m for m in milestones if isinstance(m, int) and m >= epochs]
    if late:
        findings.warn(
            f'{key}.milestones',
            f'the training has {epochs} epochs (train_cfg.max_epochs), so '
            f'the learning rate does not change at {late}. Choose smaller '
            'milestones, or set train_cfg.stretch_schedule=True '
            '(ResumableTrainLoop).',
            shown(milestones),
        )
