"""Heads that MMAction2 does not have."""

from .movinet_head import MoViNetHead
from .simkd_head import SimKDHead
from .verb_noun_head import VerbNounHead

__all__ = ['MoViNetHead', 'SimKDHead', 'VerbNounHead']
