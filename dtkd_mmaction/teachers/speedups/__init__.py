"""Rewrites that make a frozen model faster without changing its outputs."""

from .apply import SPEEDUPS, apply_speedups
from .channels_last import (
    channels_last,
    prefers_channels_last,
    to_channels_last,
)

__all__ = [
    'SPEEDUPS',
    'apply_speedups',
    'channels_last',
    'prefers_channels_last',
    'to_channels_last',
]
