"""Distillers: models that compute the losses of one batch."""

from ..recognizers.clip_view import ClipView
from ..recognizers.feature_tap import FeatureTap
from ..teachers.frozen_teacher import FrozenTeacher
from .base import BaseDistiller
from .dual_teacher import DualTeacherDistiller
from .fusion_loss import FusionLoss
from .loss_set import LossSet
from .multi_teacher import MultiTeacherDistiller
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
    'FusionLoss',
    'LossSet',
    'MultiTeacherDistiller',
    'MutualLearningDistiller',
    'SharedClipPreprocessor',
    'SimKDDistiller',
    'SingleTeacherDistiller',
]
