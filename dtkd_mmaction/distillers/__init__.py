"""Batch in, losses out."""

from ..recognizers.clip_view import ClipView
from ..recognizers.feature_tap import FeatureTap
from ..teachers.frozen_teacher import FrozenTeacher
from .base import BaseDistiller
from .dual_teacher import DualTeacherDistiller
from .loss_set import LossSet
from .mutual_learning import MutualLearningDistiller
from .shared_clip import SharedClipPreprocessor
from .simkd import SimKDDistiller
from .single_teacher import SingleTeacherDistiller

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
