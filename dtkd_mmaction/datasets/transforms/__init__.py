"""What MMAction2's transforms lack."""

from .frame_exact_decode import FrameExactDecode

__all__ = ['FrameExactDecode']
