"""Answers for the latest frames of a camera or a stream."""

import itertools
from collections import deque
from typing import Any, Deque, Iterable, Iterator, Optional, Tuple

import numpy as np

# Where the pipeline does not say how long a clip is.
DEFAULT_SECONDS = 2.0


def clip_by_clip(
    model: Any,
    frames: Iterable[np.ndarray],
    fps: float,
    seconds: Optional[float] = None,
    stride: Optional[float] = None,
) -> Iterator[Tuple[float, np.ndarray]]:
    """Scores the latest window of a stream again and again.

    Args:
        model: An ``OnnxModel`` or a model with the same attributes.
        frames (iterable of np.ndarray): (H, W, 3), ``uint8`` RGB.
        fps (float): Frames per second.
        seconds (float, optional): Length of a window. Defaults to that of a
            clip, or two seconds if clips are spread over the window.
        stride (float, optional): Seconds from one answer to the next.
            Defaults to half a window.

    Yields:
        tuple[float, np.ndarray]: Seconds since the start, probabilities (N,).
    """
    pipeline = model.pipeline.one_clip()
    length = pipeline.span
    if seconds is not None or length == 1:
        length = max(1, round((seconds or DEFAULT_SECONDS) * fps))
    step = max(1, length // 2 if stride is None else round(stride * fps))
    latest: Deque[np.ndarray] = deque(maxlen=length)
    for number, frame in enumerate(frames, start=1):
        latest.append(frame)
        if number >= length and (number - length) % step == 0:
            sample = pipeline.sample(length, fps)
            chosen = [latest[i] for i in sample.numbers]
            scores = model.scores(pipeline.clips(chosen, sample))
            yield number / fps, scores


def frame_by_frame(
    model: Any,
    frames: Iterable[np.ndarray],
    fps: float,
    seconds: Optional[float] = None,
) -> Iterator[Tuple[float, np.ndarray]]:
    """Gives a streaming model every frame that its clips would have.

    Args:
        model: A model with ``push`` and ``reset``.
        frames (iterable of np.ndarray): (H, W, 3), ``uint8`` RGB.
        fps (float): Frames per second.
        seconds (float, optional): Time after which the model forgets.
            Defaults to never.

    Yields:
        tuple[float, np.ndarray]: Seconds since the start, probabilities (N,)
            of everything since the model last forgot.
    """
    interval = model.pipeline.interval
    kept = itertools.islice(frames, 0, None, interval)
    length = None if seconds is None else round(seconds * fps / interval)
    for number, frame in enumerate(kept):
        if length and number % length == 0:
            model.reset()
        yield number * interval / fps, model.push(frame)
