"""Data sets, samplers and keyed views."""

from .checked_video_dataset import CheckedVideoDataset
from .epic_kitchens_dataset import EpicKitchensDataset, SegmentInit
from .keyed_views import KeyedViewDataset, KeyedViewSampler
from .transforms import FrameExactDecode

__all__ = [
    'CheckedVideoDataset',
    'EpicKitchensDataset',
    'FrameExactDecode',
    'KeyedViewDataset',
    'KeyedViewSampler',
    'SegmentInit',
]
