"""An ONNX file of ``tools/deploy.py`` as a model, without PyTorch."""

import json
import os.path as osp
from typing import Any, Dict, List, Optional

import numpy as np

from .pipeline import ClipPipeline
from .scores import average_views


class ModelError(ValueError):
    """A file that is no model, or not one of this project."""


def open_session(path: str, threads: Optional[int]) -> Any:
    """Opens a file in onnxruntime.

    Raises:
        ModelError: If onnxruntime is missing or cannot read the file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(
            f'{path}: onnxruntime is missing. Install it: '
            'pip install onnxruntime'
        ) from error
    if not osp.isfile(path):
        raise ModelError(f'{path}: there is no such file.')
    options = onnxruntime.SessionOptions()
    if threads:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(
            path, options, providers=['CPUExecutionProvider']
        )
    except Exception as error:  # classes of onnxruntime's own
        raise ModelError(
            f'{path}: onnxruntime cannot read it: {error}'
        ) from error


def read_metadata(session: Any, path: str) -> Dict[str, Any]:
    """Returns the metadata that ``export_onnx`` wrote.

    Raises:
        ModelError: If a part that is needed is missing.
    """
    entries = session.get_modelmeta().custom_metadata_map
    try:
        found = {key: json.loads(entries[key]) for key in ('input', 'output')}
        for key in ('pipeline', 'class_names', 'state'):
            found[key] = json.loads(entries.get(key, 'null'))
    except (KeyError, ValueError) as error:
        raise ModelError(
            f'{path} does not say what its input is (metadata {error}). Make '
            'it with tools/deploy.py.'
        ) from error
    if found['pipeline'] is None:
        raise ModelError(
            f'{path} does not hold the pipeline of its clips. Make it with '
            'tools/deploy.py, or give export_onnx the pipeline.'
        )
    return found


class _Model:
    """What both kinds of graph share.

    Args:
        session: Of onnxruntime.
        found (dict): Its metadata.
        path (str): The file.

    Attributes:
        class_names (list[str] or None): In the order of the labels.
        class_counts (list[int]): Classes per question.
        pipeline (ClipPipeline): Samples and crops the clips.
    """

    def __init__(self, session: Any, found: Dict[str, Any], path: str) -> None:
        self._session = session
        self._path = path
        self.pipeline = ClipPipeline(found['pipeline'])
        self.class_names: Optional[List[str]] = found['class_names']
        self.class_counts: List[int] = found['output']['class_counts']
        self._average: str = found['output']['average']
        self._layout: Dict[str, Any] = found['input']
        self._input = session.get_inputs()[0]
        self._probabilities = session.get_outputs()[0].name == 'probabilities'

    def _rows(self, clips: np.ndarray, frames: int) -> np.ndarray:
        """Arranges clips (V, T, H, W, 3) as rows of the graph's input."""
        rows = clips.reshape(-1, frames, *clips.shape[2:])
        rows = prepare(rows, self._layout)
        if list(rows.shape[1:]) != self._input.shape[1:]:
            raise ModelError(
                f'The video gives clips of {rows.shape[1:]}, {self._path} '
                f'takes {tuple(self._input.shape[1:])}.'
            )
        return rows

    def _averaged(self, rows: np.ndarray) -> np.ndarray:
        return average_views(
            rows, self._average, self.class_counts, self._probabilities
        )


class OnnxModel(_Model):
    """Scores of whole clips by onnxruntime; attributes as ``_Model``."""

    def scores(self, clips: np.ndarray) -> np.ndarray:
        """Returns the probabilities of one video.

        Args:
            clips (np.ndarray): ``uint8`` (V, T, H, W, 3), or (1, M, H, W, 3)
                for a 2-D recognizer.

        Returns:
            np.ndarray: (N,).

        Raises:
            ModelError: If the graph takes clips of another size.
        """
        axis = dict(NTHWC=1, NCTHW=2, NTCHW=1)[self._layout['layout']]
        rows = self._rows(clips, self._input.shape[axis])
        batch = self._input.shape[0]
        size = batch if isinstance(batch, int) else 1
        found = []
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            missing = size - len(part)
            part = np.concatenate([part, np.repeat(part[-1:], missing, 0)])
            scores = self._session.run(None, {self._input.name: part})[0]
            found.append(scores[: size - missing])
        return self._averaged(np.concatenate(found))


class OnnxStream(_Model):
    """Scores of one frame after the other; attributes as ``_Model``.

    Args:
        session: Of onnxruntime.
        found (dict): Its metadata; ``state`` has the names of the state.
        path (str): The file.
    """

    def __init__(self, session: Any, found: Dict[str, Any], path: str) -> None:
        super().__init__(session, found, path)
        types = {'tensor(int64)': np.int64, 'tensor(float)': np.float32}
        self._zeros = {
            entry.name: np.zeros(entry.shape, types[entry.type])
            for entry in session.get_inputs()
            if entry.name in found['state']
        }
        self._next = [f'next_{name}' for name in self._zeros]
        self._output = session.get_outputs()[0].name
        self.reset()

    def reset(self) -> None:
        """Begins a new video."""
        self._state = dict(self._zeros)

    def push(self, frame: np.ndarray) -> np.ndarray:
        """Returns the probabilities (N,) of the video so far.

        Args:
            frame (np.ndarray): ``uint8`` (H, W, 3) as decoded. The pipeline
                resizes and crops it; several crops are not supported.
        """
        return self._averaged(self._step(self.pipeline.pixels([frame])[:1]))

    def scores(self, clips: np.ndarray) -> np.ndarray:
        """Returns the probabilities (N,) of one video (V, T, H, W, 3)."""
        found = []
        for clip in clips:
            self.reset()
            for frame in clip:
                rows = self._step([frame])
            found.append(rows)
        self.reset()
        return self._averaged(np.concatenate(found))

    def _step(self, frame: List[np.ndarray]) -> np.ndarray:
        rows = self._rows(np.stack(frame)[None], 1)
        feed = {self._input.name: rows, **self._state}
        scores, *state = self._session.run([self._output, *self._next], feed)
        self._state = dict(zip(self._zeros, state))
        return scores


def open_onnx(path: str, threads: Optional[int] = None) -> _Model:
    """Opens a file of ``tools/deploy.py``.

    Raises:
        ModelError: If onnxruntime is missing, or the file is no such file.
    """
    session = open_session(path, threads)
    found = read_metadata(session, path)
    kind = OnnxModel if found['state'] is None else OnnxStream
    return kind(session, found, path)


def prepare(rows: np.ndarray, layout: Dict[str, Any]) -> np.ndarray:
    """Brings frames (V, T, H, W, 3) into the layout of a graph's input."""
    if layout['layout'] == 'NTHWC':
        return np.ascontiguousarray(rows)
    if layout['to_rgb']:
        rows = rows[..., ::-1]
    mean, std = np.float32(layout['mean']), np.float32(layout['std'])
    rows = (rows.astype(np.float32) - mean) / std
    order = (0, 4, 1, 2, 3) if layout['layout'] == 'NCTHW' else (0, 1, 4, 2, 3)
    return np.ascontiguousarray(rows.transpose(order))
