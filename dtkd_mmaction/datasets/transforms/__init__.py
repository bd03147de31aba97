"""Transforms that MMAction2 lacks."""

from .frame_exact_decode import FrameExactDecode

__all__ = ['FrameExactDecode']
