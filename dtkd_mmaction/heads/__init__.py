"""Heads that MMAction2 lacks."""

from .movinet_head import MoViNetHead

__all__ = ['MoViNetHead']
