"""Rewrites that make a frozen model faster and leave its answers alone."""

from .apply import REWRITES, optimise
from .channels_last import (
    channels_last,
    prefers_channels_last,
    to_channels_last,
)

__all__ = [
    'REWRITES',
    'channels_last',
    'optimise',
    'prefers_channels_last',
    'to_channels_last',
]
