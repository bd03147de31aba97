"""Trial construction of the parts of a config that are quick to build.

Only a constructor knows its choices ("layout='channel_last'"), the options
that exclude each other and the types that it takes.
"""

import copy
import inspect
from collections.abc import Mapping
from typing import Any, Callable

import torch.nn as nn
from mmaction.registry import MODELS, OPTIMIZERS
from mmengine.hooks import EMAHook
from torch.optim import SGD, Optimizer

from .findings import Findings, shown
from .signatures import OWN_PACKAGE

# Their hooks, transforms, metrics, optimizers and schedulers open nothing
# when they are built. Classes of users may.
TRIED = (
    OWN_PACKAGE,
    'mmaction.datasets.transforms',
    'mmaction.evaluation',
    'mmcv.transforms',
    'mmengine.hooks',
    'mmengine.optim',
    'torch.optim',
)


def try_out(
    part: Callable,
    options: Mapping,
    key: str,
    findings: Findings,
    **supplied: Any,
) -> None:
    """Builds a part and reports the error of its constructor.

    Args:
        part (callable): Its class.
        options (dict): Its arguments in the config.
        key (str): Its config key.
        findings (Findings): Collects the problems.
        **supplied: Arguments that the builder of the part fills in.
    """
    if not getattr(part, '__module__', '').startswith(TRIED):
        return
    try:
        built = part(**{**supplied, **copy.deepcopy(dict(options))})
        if isinstance(built, EMAHook):
            # The hook leaves its options to the average that it will build.
            average = dict(built.ema_cfg, model=nn.Linear(1, 1))
            MODELS.build(average)
    except OSError:  # a metric reads its file
        return
    except Exception as error:
        # An assertion without a text says nothing.
        reason = str(error) or (
            f'{type(error).__name__}. {part.__module__} documents the options '
            f'of {part.__name__}.'
        )
        findings.error(key, f'it cannot be built: {reason}', shown(options))


def tiny_parameters() -> list:
    """Returns parameters for the trial of an optimizer."""
    return list(nn.Linear(1, 1).parameters())


def tiny_optimizer(config: Any) -> Optimizer:
    """Returns an optimizer for the trial of a schedule.

    Args:
        config (dict, optional): The config's optimizer; SGD where it cannot
            be built.
    """
    try:
        return OPTIMIZERS.build(
            dict(copy.deepcopy(dict(config)), params=tiny_parameters())
        )
    except Exception:  # reported by the check of the optimizer
        return SGD(tiny_parameters(), lr=0.1, momentum=0.9)


def shapes_of(part: Callable, shapes: Mapping) -> dict:
    """Returns those of the shapes that a constructor takes."""
    wanted = inspect.signature(part).parameters
    return {name: v for name, v in shapes.items() if name in wanted}
