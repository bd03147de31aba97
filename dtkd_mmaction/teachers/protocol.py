"""Protocol of the distillers that the tools for teachers can use.

With it, this package imports nothing from ``distillers``.
"""

from typing import Any, Dict, Iterator, Optional, Protocol, Set

import torch.nn as nn
from torch import Tensor

from ..recognizers.recording import Recording
from .frozen_teacher import FrozenTeacher
from .teacher_cache import TeacherCache


class ModelWithTeachers(Protocol):
    """A model with frozen teachers, such as ``BaseDistiller``."""

    data_preprocessor: nn.Module
    teacher_specs: Dict[str, dict]
    teacher_mode: str
    teachers_ahead: Any
    loss_sd: Any
    teacher_quantities: Dict[str, Set[str]]

    @property
    def teachers(self) -> Dict[str, FrozenTeacher]:
        """Teachers by short name, built at first use."""

    @property
    def teacher_cache(self) -> Optional[TeacherCache]:
        """Cache that replaces the teachers, opened at first use."""

    def build_teachers(self) -> Dict[str, FrozenTeacher]:
        """Builds the teachers without their weights."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yields what is trained."""

    def has_open_view(self) -> bool:
        """Returns whether a model's clips depend on the data."""

    def fit_taps(self, clips: Tensor) -> None:
        """Measures models without a view with the clips of the training."""

    def run_teachers(self, clips: Tensor) -> Dict[str, Recording]:
        """Runs the teachers that the losses read."""

    def describe_teachers(self) -> Dict[str, dict]:
        """Returns everything that each teacher's outputs depend on."""

    def cached_map_options(self, maps: str) -> Optional[dict]:
        """Returns what cached maps depend on besides the teachers."""
