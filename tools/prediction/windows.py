"""Answers for whole videos and for windows of long ones."""

from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from .frames import Video


class Window(NamedTuple):
    """Part of a video and its scores.

    Attributes:
        start (float): Seconds.
        end (float): Seconds.
        scores (np.ndarray): Probabilities (N,).
    """

    start: float
    end: float
    scores: np.ndarray


def video_scores(
    model: Any, video: Video, start: int = 0, stop: int = 0
) -> np.ndarray:
    """Returns the probabilities (N,) for the frames from start to stop.

    Args:
        model: An ``OnnxModel`` or a model with the same attributes.
        video (Video): The video.
        start (int): First frame. Defaults to 0.
        stop (int): Frame after the last one. Defaults to the video's end.
    """
    length = (stop or video.length) - start
    sample = model.pipeline.sample(length, video.fps)
    frames = video.frames(sample.numbers + start)
    return model.scores(model.pipeline.clips(frames, sample))


def window_scores(
    model: Any, video: Video, seconds: float, stride: float
) -> List[Window]:
    """Scores each window of a video with the whole pipeline.

    Args:
        model: As in :func:`video_scores`.
        video (Video): The video.
        seconds (float): Length of a window.
        stride (float): From one window's start to the next one's.
    """
    return [
        Window(
            start / video.fps,
            stop / video.fps,
            video_scores(model, video, start, stop),
        )
        for start, stop in spans(
            video.length,
            max(1, round(seconds * video.fps)),
            max(1, round(stride * video.fps)),
        )
    ]


def spans(length: int, window: int, stride: int) -> List[Tuple[int, int]]:
    """Returns the frames (start, stop) of the windows of a video.

    The last window ends with the video and may overlap the one before more.
    """
    last = max(0, length - window)
    starts = [*range(0, last, stride), last]
    return [(start, min(length, start + window)) for start in starts]


def segments(windows: List[Window], names: List[str]) -> List[Dict[str, Any]]:
    """Joins neighbouring windows with the same first class.

    Returns:
        list[dict]: ``start`` and ``end`` in seconds, ``name``, and
            ``score``, the mean of the windows.
    """
    found: List[Dict[str, Any]] = []
    members: List[List[float]] = []
    for window in windows:
        best = int(window.scores.argmax())
        score = float(window.scores[best])
        if found and found[-1]['name'] == names[best]:
            members[-1].append(score)
        else:
            found.append(dict(start=window.start, name=names[best]))
            members.append([score])
        found[-1]['end'] = window.end
        found[-1]['score'] = float(np.mean(members[-1]))
    # A window belongs to the next segment from where that one starts.
    for earlier, later in zip(found, found[1:]):
        earlier['end'] = min(earlier['end'], later['start'])
    return found


def clock(seconds: float) -> str:
    """Returns ``minutes:seconds``."""
    minutes, rest = divmod(seconds, 60)
    return f'{int(minutes)}:{rest:04.1f}'
