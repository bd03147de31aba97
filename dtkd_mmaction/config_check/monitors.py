"""Names of metrics that hooks and schedules of a config monitor."""

from collections.abc import Mapping
from typing import Any, Iterator, Optional, Set, Tuple

from mmaction.evaluation import AccMetric
from mmaction.registry import HOOKS, METRICS, PARAM_SCHEDULERS
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.optim.scheduler import ReduceOnPlateauParamScheduler

from ..evaluation import VerbNounMetric
from .findings import Findings, choices_text, nearest, shown
from .signatures import find_class

PREFIX = AccMetric.default_prefix
# Metrics of AccMetric that give a single value.
SINGLE = dict(
    mean_class_accuracy='mean1',
    mean_average_precision='mean_average_precision',
    mmit_mean_average_precision='mmit_mean_average_precision',
)


def check_monitors(config: Mapping, findings: Findings) -> None:
    """Compares monitored names with those that ``val_evaluator`` gives."""
    monitored = list(_monitored(config))
    if not monitored:
        return
    if config.get('val_dataloader') is None:
        for key, name in monitored:
            findings.warn(
                key,
                'there is no val_dataloader, so no metric is computed. Give '
                'one with val_cfg and val_evaluator, or remove this key.',
                shown(name),
            )
        return
    names = metric_names(config.get('val_evaluator'))
    if names is None:
        return
    for key, name in monitored:
        if name in names or name == 'auto':
            continue
        near = nearest(str(name), names)
        findings.error(
            key,
            'val_evaluator gives no such value. '
            + (f'Did you mean {near!r}? ' if near else '')
            + f'It gives {choices_text(names)}.',
            shown(name),
        )


def _monitored(config: Mapping) -> Iterator[Tuple[str, Any]]:
    """Yields keys and names of all monitored metrics."""
    hooks = [
        (hook, f'default_hooks.{name}')
        for name, hook in (config.get('default_hooks') or {}).items()
    ]
    custom = config.get('custom_hooks') or []
    if isinstance(custom, (list, tuple)):
        hooks += [(h, f'custom_hooks.{i}') for i, h in enumerate(custom)]
    for hook, key in hooks:
        part = _class_of(HOOKS, hook)
        if issubclass(part, CheckpointHook) and hook.get('save_best'):
            best = hook['save_best']
            names = best if isinstance(best, (list, tuple)) else [best]
            yield from ((f'{key}.save_best', name) for name in names)
        if issubclass(part, EarlyStoppingHook) and 'monitor' in hook:
            yield f'{key}.monitor', hook['monitor']
    schedules = config.get('param_scheduler') or []
    if isinstance(schedules, Mapping):
        schedules = [schedules]
    for index, schedule in enumerate(schedules):
        part = _class_of(PARAM_SCHEDULERS, schedule)
        if issubclass(part, ReduceOnPlateauParamScheduler):
            if 'monitor' in schedule:
                key = f'param_scheduler.{index}.monitor'
                yield key, schedule['monitor']


def _class_of(registry: Any, config: Any) -> type:
    """Returns the class of a part; ``object`` where there is none."""
    part = isinstance(config, Mapping) and find_class(
        registry, config.get('type')
    )
    return part if isinstance(part, type) else object


def metric_names(evaluator: Any) -> Optional[Set[str]]:
    """Returns the names of the values that an evaluator gives.

    Args:
        evaluator (dict or list[dict]): Config of one or more metrics.

    Returns:
        set[str], optional: None if a metric is neither ``AccMetric`` nor
            ``VerbNounMetric``, whose names are known.
    """
    names: Set[str] = set()
    several = isinstance(evaluator, (list, tuple))
    metrics = evaluator if several else [evaluator]
    for metric in metrics:
        part = _class_of(METRICS, metric)
        if part is AccMetric:
            prefix = metric.get('prefix') or PREFIX
            names |= {f'{prefix}/{name}' for name in _accuracies(metric)}
        elif part is VerbNounMetric:
            names |= {
                f'{name}/top{k}'
                for name in ('action', 'verb', 'noun')
                for k in (1, 5)
            }
        else:
            return None
    return names


def _accuracies(metric: Mapping) -> Set[str]:
    """Returns the names of ``AccMetric`` without their prefix."""
    default = ('top_k_accuracy', 'mean_class_accuracy')
    wanted = metric.get('metric_list', default)
    wanted = [wanted] if isinstance(wanted, str) else wanted
    names = {SINGLE[name] for name in wanted if name in SINGLE}
    if 'top_k_accuracy' in wanted:
        options = (metric.get('metric_options') or {}).get('top_k_accuracy')
        topk = (options or {}).get('topk', (1, 5))
        topk = topk if isinstance(topk, (list, tuple)) else [topk]
        names |= {f'top{k}' for k in topk}
    return names
