"""Describes what the tools for teachers need of a distiller.

A protocol, so that this package imports nothing from ``distillers``.
"""

from typing import Dict, Optional, Protocol, Set

from torch import Tensor

from ..recognizers.feature_tap import Recording
from .frozen_teacher import FrozenTeacher


class TaughtModel(Protocol):
    """A model with teachers, such as ``BaseDistiller``."""

    teacher_specs: Dict[str, dict]
    teacher_mode: str

    @property
    def teachers(self) -> Dict[str, FrozenTeacher]:
        """Teachers by short name, built at first use."""

    def ask_teachers(self, clips: Tensor) -> Dict[str, Recording]:
        """Runs the teachers that a step needs."""

    def teacher_quantities(self) -> Dict[str, Set[str]]:
        """Returns what the losses read of each teacher."""

    def describe_teachers(self) -> Dict[str, dict]:
        """Returns everything that each teacher's outputs depend on."""

    def compared_on(self, maps: str) -> Optional[dict]:
        """Returns what cached maps depend on besides the teachers."""
