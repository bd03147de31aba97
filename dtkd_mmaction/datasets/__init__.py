"""What MMAction2's data sets lack."""

from .checked_video_dataset import CheckedVideoDataset

__all__ = ['CheckedVideoDataset']
