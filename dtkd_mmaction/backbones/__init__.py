"""Backbones that MMAction2 does not have."""

from .movinet import MoViNet

__all__ = ['MoViNet']
