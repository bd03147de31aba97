"""Dual-teacher cross-architecture distillation for MMAction2.

Importing the package repairs the released stack (:mod:`.compat`) and registers
everything in MMAction2's registries. A config imports it with ``custom_imports
= dict(imports=['dtkd_mmaction'])``.
"""

# ruff: noqa: E402
from . import compat

compat.apply()  # before anything imports mmaction.models

from . import (
    backbones,
    config_check,
    datasets,
    distillers,
    engine,
    evaluation,
    heads,
    losses,
    modules,
)
from .engine.launcher_watch import end_with_launcher
from .version import __version__

# Before models are built: a launcher may be killed while they are built.
end_with_launcher()
config_check.install()  # every training of MMAction2 is checked

__all__ = [
    '__version__',
    'backbones',
    'config_check',
    'datasets',
    'distillers',
    'engine',
    'evaluation',
    'heads',
    'losses',
    'modules',
]
