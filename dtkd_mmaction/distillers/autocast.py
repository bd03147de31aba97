"""Mixed precision around the losses."""

import functools
from typing import Callable

import torch


def without_autocast(method: Callable) -> Callable:
    """Decorates a method of a distiller that computes losses in float32.

    Softmax, KL, quantiles and distances are not precise enough in the types
    of mixed precision. The method's first argument is a ``Recording``.
    """

    @functools.wraps(method)
    def wrapper(self, student, *args):
        with torch.autocast(student.logits.device.type, enabled=False):
            return method(self, student, *args)

    return wrapper


def autocasts_to_float16(device: torch.device) -> bool:
    """Returns whether the code that runs now is under float16 autocast."""
    if hasattr(torch, 'get_autocast_dtype'):
        kind = device.type
        return (
            torch.is_autocast_enabled(kind)
            and torch.get_autocast_dtype(kind) is torch.float16
        )
    return (  # PyTorch before 2.4
        torch.is_autocast_enabled()
        and torch.get_autocast_gpu_dtype() is torch.float16
    )
