"""Helpers of the repairs: replace a function once, log on one process."""

import functools
import logging
from typing import Any, Callable

from mmengine.device import get_device
from mmengine.dist import get_dist_info
from mmengine.logging import print_log


def has_accelerator() -> bool:
    # MPS counts as none: neither DDP nor AMP of MMEngine know it.
    return get_device() not in ('cpu', 'mps')


def notice(message: str) -> None:
    # MMEngine's logger may be older than the process group: it then takes
    # every process for the first.
    if get_dist_info()[0] == 0:
        print_log(message, logger='current', level=logging.WARNING)


def wrap(owner: Any, name: str, make: Callable) -> None:
    """Replaces ``owner.name`` by ``make(upstream)``, once."""
    upstream = getattr(owner, name)
    if not hasattr(upstream, '_dtkd_upstream'):
        wrapper: Any = functools.wraps(upstream)(make(upstream))
        wrapper._dtkd_upstream = upstream
        setattr(owner, name, wrapper)
