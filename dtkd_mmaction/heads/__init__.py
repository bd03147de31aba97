"""Heads that MMAction2 lacks."""

from .movinet_head import MoViNetHead
from .simkd_head import SimKDHead

__all__ = ['MoViNetHead', 'SimKDHead']
