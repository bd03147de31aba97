"""Batch in, losses out."""

from .base import BaseDistiller
from .clip_view import ClipView
from .dual_teacher import DualTeacherDistiller
from .feature_tap import FeatureTap
from .loss_set import LossSet
from .mutual_learning import MutualLearningDistiller
from .shared_clip import SharedClipPreprocessor
from .simkd import SimKDDistiller
from .single_teacher import SingleTeacherDistiller
from .teacher import FrozenTeacher

__all__ = [
    'BaseDistiller',
    'ClipView',
    'DualTeacherDistiller',
    'FeatureTap',
    'FrozenTeacher',
    'LossSet',
    'MutualLearningDistiller',
    'SharedClipPreprocessor',
    'SimKDDistiller',
    'SingleTeacherDistiller',
]
