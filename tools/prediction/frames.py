"""Frames of a video file or a camera, without PyTorch."""

import os.path as osp
from typing import Any, Iterator, List, Optional, Sequence, Union

import numpy as np


class VideoError(ValueError):
    """A file or a camera that gives no frames."""


class Video:
    """Frames of a video file, read by decord or else by OpenCV.

    Args:
        path (str): The file.
        in_order (bool): Whether to read from the first frame on instead of
            seeking, as ``FrameExactDecode`` does. Defaults to False.

    Attributes:
        length (int): Number of frames.
        fps (float): Frames per second.

    Raises:
        VideoError: If it cannot be opened or holds no frames.
    """

    def __init__(self, path: str, in_order: bool = False) -> None:
        if not osp.isfile(path):
            raise VideoError(f'{path}: there is no such file.')
        try:
            self._reader: Any = _DecordReader(path, in_order)
        except ImportError:
            self._reader = _OpenCvReader(path)
        self.path = path
        self.length: int = self._reader.length
        self.fps: float = self._reader.fps or 25.0
        if not self.length:
            raise VideoError(f'{path}: it holds no frames.')

    def frames(self, numbers: Sequence[int]) -> List[np.ndarray]:
        """Returns frames (H, W, 3), ``uint8`` RGB, in any order."""
        frames = self._reader.frames(np.asarray(numbers))
        if len(frames) != len(numbers):
            raise VideoError(
                f'{self.path}: only {len(frames)} of {len(numbers)} frames '
                'could be decoded. tools/data/check_clips.py says why.'
            )
        return frames


class _DecordReader:
    def __init__(self, path: str, in_order: bool) -> None:
        import decord

        try:
            self._reader = decord.VideoReader(path, num_threads=1)
            self.length = len(self._reader)
            self.fps = float(self._reader.get_avg_fps())
        except (RuntimeError, decord.DECORDError) as error:
            raise VideoError(f'{path}: decord cannot open it.') from error
        self._in_order = in_order

    def frames(self, numbers: np.ndarray) -> List[np.ndarray]:
        if not self._in_order:
            return list(self._reader.get_batch(numbers).asnumpy())
        self._reader.seek(0)
        found = {}
        for number in range(int(numbers.max()) + 1):
            frame = self._reader.next()
            if number in numbers:
                found[number] = frame.asnumpy()
        return [found[number] for number in numbers.tolist()]


class _OpenCvReader:
    def __init__(self, path: str) -> None:
        self._path = path
        source = Stream(path)
        self.fps = source.fps
        self.length = source.count()

    def frames(self, numbers: np.ndarray) -> List[np.ndarray]:
        found = {}
        for number, frame in enumerate(Stream(self._path)):
            if number in numbers:
                found[number] = frame
            if number == numbers.max():
                break
        return [found[n] for n in numbers.tolist() if n in found]


class Stream:
    """Frames of a camera, a stream or a file as they come, by OpenCV.

    Args:
        source (str or int): Number of a camera, a URL or a file.

    Attributes:
        fps (float or None): Frames per second that the source states.

    Raises:
        VideoError: If it cannot be opened.
    """

    def __init__(self, source: Union[str, int]) -> None:
        try:
            import cv2
        except ImportError as error:
            raise VideoError(
                f'{source}: OpenCV would read it and is missing. Install it: '
                'pip install opencv-python-headless'
            ) from error
        if isinstance(source, str) and source.isdigit():
            source = int(source)
        self._capture = cv2.VideoCapture(source)
        if not self._capture.isOpened():
            what = 'camera' if isinstance(source, int) else 'stream or file'
            raise VideoError(f'{source}: there is no such {what}.')
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps: Optional[float] = fps if 0 < fps < 1000 else None

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields frames (H, W, 3), ``uint8`` RGB, then closes the source."""
        try:
            while True:
                read, frame = self._capture.read()
                if not read:
                    return
                yield np.ascontiguousarray(frame[..., ::-1])  # it has BGR
        finally:
            self._capture.release()

    def count(self) -> int:
        """Counts the frames; a file's header has an estimate only."""
        count = 0
        while self._capture.grab():
            count += 1
        self._capture.release()
        return count
