"""Decoding of clips in which decord cannot seek."""

from typing import Any, List

import numpy as np
from mmaction.datasets.transforms import DecordDecode
from mmaction.registry import TRANSFORMS
from mmengine.logging import print_log

# More frames per sample than this cause a warning: about two minutes.
LONG_READ = 3000


def read_in_order(reader: Any, frame_inds: np.ndarray) -> List[np.ndarray]:
    """Reads frames of a video in order, without seeking.

    On some files decord returns other frames than those asked for: it skips by
    presentation times, which they lack, or it seeks to a key frame and decodes
    from another frame than it assumes (dmlc/decord#195). Reading from an
    earlier key frame fails there, too. Reading from the first frame is
    correct.

    Only the wanted frames are kept, so the memory does not grow with the
    video; the time grows with the last wanted frame.

    Args:
        reader (decord.VideoReader): The open video.
        frame_inds (np.ndarray): (N,), frame numbers in any order, also
            repeated. Negative ones count from the end.

    Returns:
        list[np.ndarray]: N RGB frames, uint8, (H, W, 3) each. A repeated
        frame is a copy of its own: stock transforms change frames in place.

    Raises:
        IndexError: If a number is outside of the video.
        RuntimeError: If decord delivers fewer frames than it counted.
    """
    length = len(reader)
    numbers = np.where(frame_inds < 0, frame_inds + length, frame_inds)
    outside = (numbers < 0) | (numbers >= length)
    if outside.any():
        raise IndexError(
            f'frame_inds {frame_inds[outside].tolist()} are outside of a '
            f'video of {length} frames'
        )
    frames: List[Any] = [None] * len(numbers)
    reader.seek(0)  # seeking to the first frame works
    for number in range(numbers.max() + 1):
        try:
            frame = reader.next()
        except StopIteration as error:
            raise RuntimeError(
                f'decord counted {length} frames but the video ends after '
                f'{number}'
            ) from error
        for position in np.flatnonzero(numbers == number):
            frames[position] = frame.asnumpy()
    return frames


@TRANSFORMS.register_module()
class FrameExactDecode(DecordDecode):
    """``DecordDecode`` for clips on which decord returns wrong frames.

    ``tools/data/check_clips.py`` finds such clips. Takes the place of
    ``DecordDecode`` in a pipeline, with the same keys, and gives the same
    frames wherever ``DecordDecode`` is right. See :func:`read_in_order` for
    how, and ``docs/decoding.md`` for what it costs. It is too slow for
    segments far inside long videos: re-encode those with
    ``tools/data/reencode_clips.py``.

    Example:
        >>> import tempfile
        >>> import cv2
        >>> import numpy as np
        >>> from mmaction.datasets.transforms import DecordInit
        >>> from dtkd_mmaction.datasets import FrameExactDecode
        >>> path = f'{tempfile.mkdtemp()}/brighter.mp4'
        >>> code = cv2.VideoWriter_fourcc(*'mp4v')
        >>> writer = cv2.VideoWriter(path, code, 10, (32, 32))
        >>> for frame in range(5):
        ...     _ = writer.write(np.full((32, 32, 3), 50 * frame, np.uint8))
        >>> writer.release()
        >>> results = DecordInit().transform(dict(filename=path))
        >>> results['frame_inds'] = np.array([3, 1])
        >>> results = FrameExactDecode().transform(results)
        >>> [round(image.mean() / 50) for image in results['imgs']]
        [3, 1]
    """

    def __init__(self) -> None:
        super().__init__()
        self._told = False

    def _decord_load_frames(
        self, container: Any, frame_inds: np.ndarray
    ) -> List[np.ndarray]:
        frames = read_in_order(container, frame_inds)
        if frame_inds.max() >= LONG_READ and not self._told:
            self._told = True
            print_log(
                f'FrameExactDecode decoded {frame_inds.max() + 1} frames to '
                f'get {len(frame_inds)}: it always starts at the first one. '
                'For videos as long as this one use DecordDecode, after '
                'tools/data/check_clips.py found it right on them or '
                'tools/data/reencode_clips.py made it right.',
                'current',
                level=30,
            )
        return frames

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
