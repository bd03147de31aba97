"""Runtimes that compute the scores of clips: PyTorch, onnxruntime, OpenVINO.

Each is called with rows of one kind of input and returns one row of scores
per row: ``(B, ...) -> (B, N)``, NumPy arrays.
"""

import os.path as osp
import tempfile
from contextlib import contextmanager
from typing import Any, Iterator, List, Optional

import numpy as np
import torch

from ..files import Path, read_bytes, write_bytes
from .clip_classifier import ClipClassifier
from .optional_packages import optional_package


class Runtime:
    """Base of the runtimes.

    Args:
        name (str): For tables.
        path (str or Path): The file that it runs.
        batch (int, optional): The batch size that it takes. Defaults to any.
    """

    def __init__(self, name: str, path: Path, batch: Optional[int]) -> None:
        self.name = name
        self.path = path
        self.batch = batch

    def run(self, rows: np.ndarray) -> np.ndarray:
        """Computes a batch of the size that the runtime takes."""
        raise NotImplementedError

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Computes any number of rows, one batch after the other."""
        size = self.batch or 1
        scores = []
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            missing = size - len(part)
            if missing:
                part = np.concatenate([part, np.repeat(part[-1:], missing, 0)])
            scores.append(self.run(part)[: size - missing])
        return np.concatenate(scores)


class TorchRuntime(Runtime):
    """PyTorch, in the stock memory layout or channels last.

    Args:
        model (ClipClassifier): Its memory layout is changed in place.
        path (str or Path): The checkpoint.
        threads (int): Threads of one operator.
        channels_last (bool): Whether channels are innermost in memory.
            Defaults to False.
    """

    def __init__(
        self,
        model: ClipClassifier,
        path: Path,
        threads: int,
        channels_last: bool = False,
    ) -> None:
        name = 'PyTorch channels-last' if channels_last else 'PyTorch'
        super().__init__(name, path, None)
        self.model = model
        self.threads = threads
        self.layout = None
        if channels_last:
            self.layout = (
                torch.channels_last
                if model.folds_frames
                else torch.channels_last_3d
            )
            rank = 4 if model.folds_frames else 5
            for weight in model.parameters():
                if weight.ndim == rank:
                    weight.data = weight.data.contiguous(
                        memory_format=self.layout
                    )

    @torch.no_grad()
    def run(self, rows: np.ndarray) -> np.ndarray:
        """Computes a batch of any size."""
        clips = torch.from_numpy(rows)
        if self.layout is not None and not self.model.normalise:
            if self.model.folds_frames:
                folded = clips.flatten(0, 1).contiguous(
                    memory_format=self.layout
                )
                clips = folded.unflatten(0, clips.shape[:2])
            else:
                clips = clips.contiguous(memory_format=self.layout)
        with torch_threads(self.threads):
            return self.model(clips).numpy()


class OnnxRuntime(Runtime):
    """onnxruntime on the CPU.

    Args:
        path (str or Path): The ONNX file.
        threads (int): Threads of one operator.
        name (str): For tables. Defaults to ``'onnxruntime'``.

    Raises:
        ImportError: If onnxruntime is not installed.
    """

    def __init__(
        self, path: Path, threads: int, name: str = 'onnxruntime'
    ) -> None:
        onnxruntime = optional_package('onnxruntime')
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=['CPUExecutionProvider']
        )
        (self.input,) = self.session.get_inputs()
        super().__init__(name, path, fixed(self.input.shape[0]))

    def run(self, rows: np.ndarray) -> np.ndarray:
        """Computes a batch of the size that the graph takes."""
        return self.session.run(None, {self.input.name: rows})[0]


class OpenVinoRuntime(Runtime):
    """OpenVINO on the CPU, in the precision of the file.

    Args:
        path (str or Path): An ONNX file or OpenVINO's ``.xml``.
        threads (int): Threads of one operator.
        name (str): For tables. Defaults to ``'OpenVINO'``.

    Raises:
        ImportError: If openvino is not installed.
    """

    def __init__(
        self, path: Path, threads: int, name: str = 'OpenVINO'
    ) -> None:
        openvino = optional_package('openvino')
        self.model = openvino.Core().compile_model(
            str(path),
            'CPU',
            {
                'INFERENCE_NUM_THREADS': threads,
                'PERFORMANCE_HINT': 'LATENCY',
                # It would use bfloat16 where the processor has it.
                'INFERENCE_PRECISION_HINT': 'f32',
            },
        )
        size = self.model.inputs[0].partial_shape[0]
        batch = None if size.is_dynamic else size.get_length()
        super().__init__(name, path, batch)

    def run(self, rows: np.ndarray) -> np.ndarray:
        """Computes a batch of the size that the graph takes."""
        return np.array(self.model([rows])[0])


def write_openvino(path: Path, out: Path) -> List[str]:
    """Converts an ONNX file to OpenVINO's format in full precision.

    Args:
        path (str or Path): The ONNX file.
        out (str or Path): The ``.xml`` file; the weights go to a ``.bin``
            file beside it.

    Returns:
        list[str]: Both files.

    Raises:
        ImportError: If openvino is not installed.
    """
    openvino = optional_package('openvino')
    stem = osp.splitext(str(out))[0]
    files = [f'{stem}.xml', f'{stem}.bin']
    with tempfile.TemporaryDirectory() as folder:
        xml = osp.join(folder, 'model.xml')
        model = openvino.convert_model(str(path))
        openvino.save_model(model, xml, compress_to_fp16=False)
        # The weights first: the other file says that both are there.
        for target in reversed(files):
            ending = osp.splitext(target)[1]
            write_bytes(target, read_bytes(osp.join(folder, f'model{ending}')))
    return files


def fixed(size: Any) -> Optional[int]:
    """Returns an axis's size if it is fixed, else None."""
    return size if isinstance(size, int) else None


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Sets the threads of PyTorch for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
