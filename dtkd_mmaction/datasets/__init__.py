"""What MMAction2's data sets lack."""

from .checked_video_dataset import CheckedVideoDataset
from .epic_kitchens_dataset import EpicKitchensDataset, SegmentInit
from .keyed_views import KeyedViewDataset, KeyedViewSampler

__all__ = [
    'CheckedVideoDataset',
    'EpicKitchensDataset',
    'KeyedViewDataset',
    'KeyedViewSampler',
    'SegmentInit',
]
