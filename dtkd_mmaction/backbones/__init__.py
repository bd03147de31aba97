"""Backbones that MMAction2 lacks."""

from .movinet import MoViNet

__all__ = ['MoViNet']
