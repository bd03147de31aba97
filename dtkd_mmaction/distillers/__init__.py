"""Batch in, losses out."""

from .base import BaseDistiller
from .clip_view import ClipView
from .dual_teacher import DualTeacherDistiller
from .feature_tap import FeatureTap
from .shared_clip import SharedClipPreprocessor
from .teacher import FrozenTeacher

__all__ = [
    'BaseDistiller',
    'ClipView',
    'DualTeacherDistiller',
    'FeatureTap',
    'FrozenTeacher',
    'SharedClipPreprocessor',
]
