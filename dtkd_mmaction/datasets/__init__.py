"""What MMAction2's data sets lack."""

from .checked_video_dataset import CheckedVideoDataset
from .epic_kitchens_dataset import EpicKitchensDataset, SegmentInit

__all__ = ['CheckedVideoDataset', 'EpicKitchensDataset', 'SegmentInit']
