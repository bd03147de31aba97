"""Transforms that MMAction2 does not have."""

from .frame_exact_decode import FrameExactDecode

__all__ = ['FrameExactDecode']
