"""Static quantisation of an ONNX file to 8-bit integers."""

import contextlib
import json
import logging
import os.path as osp
import tempfile
from typing import Dict, Iterable, Iterator, Optional

import numpy as np

from ..files import Path, read_bytes, read_text, write_bytes
from .optional_packages import optional_package

# Operators with weights. The others stay in float32: they cost little, and
# normalisation, squeeze-excitation gates and softmax need the range.
QUANTISED = ('Conv', 'Gemm', 'MatMul')
CPU_INFO = '/proc/cpuinfo'


def quantise_onnx(
    path: Path,
    calibration_batches: Iterable[np.ndarray],
    out: Path,
    reduce_range: Optional[bool] = None,
) -> None:
    """Quantises convolutions and linear layers to 8-bit integers.

    Static quantisation by onnxruntime: signed weights per output channel,
    unsigned activations from the smallest to the largest value on the
    calibration batches, as pairs of QuantizeLinear and DequantizeLinear
    (QDQ). Metadata is kept.

    Args:
        path (str or Path): File of :func:`export_onnx`.
        calibration_batches (iterable of np.ndarray): Inputs of the graph.
        out (str or Path): The file to write.
        reduce_range (bool, optional): Whether weights use 7 bits. Processors
            without VNNI instructions add pairs of products in 16 bits, which
            overflow with 8. Defaults to whether this processor lacks VNNI.

    Raises:
        ImportError: If onnx or onnxruntime is not installed.
        ValueError: If there are no calibration batches, or none of the
            shape that the graph takes.
    """
    onnx = optional_package('onnx')
    quantization = optional_package('onnxruntime.quantization')
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if reduce_range is None:
        reduce_range = not has_vnni()
    model = onnx.load_from_string(read_bytes(path))
    (graph_input,) = model.graph.input
    batches = _checked(calibration_batches, graph_input, path)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared = osp.join(folder, 'prepared.onnx')
        quantised = osp.join(folder, 'quantised.onnx')
        quant_pre_process(str(path), prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            quantised,
            _Batches(graph_input.name, batches),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            per_channel=True,
            # Signed ones, the default, are slower than float32 on x86.
            activation_type=quantization.QuantType.QUInt8,
            reduce_range=reduce_range,
        )
        result = onnx.load_from_string(read_bytes(quantised))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    bits = 7 if reduce_range else 8
    metadata['quantisation'] = json.dumps(dict(bits=bits))
    onnx.helper.set_model_props(result, metadata)
    onnx.checker.check_model(result, full_check=True)
    write_bytes(out, result.SerializeToString())


def has_vnni() -> bool:
    """Whether this processor multiplies 8-bit numbers without overflow."""
    try:
        return 'vnni' in read_text(CPU_INFO)
    except OSError:  # no Linux: 7 bits are right everywhere
        return False


class _Batches:
    """Calibration batches in the form that onnxruntime asks for."""

    def __init__(self, name: str, batches: Iterator[np.ndarray]) -> None:
        self._name = name
        self._batches = batches

    def get_next(self) -> Optional[Dict[str, np.ndarray]]:
        """Returns the next feed, or None."""
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}


def _checked(
    batches: Iterable[np.ndarray], graph_input, path: Path
) -> Iterator[np.ndarray]:
    sizes = [
        dim.dim_value or None for dim in graph_input.type.tensor_type.shape.dim
    ]
    count = 0
    for batch in batches:
        if len(batch.shape) != len(sizes) or any(
            size not in (None, found)
            for size, found in zip(sizes, batch.shape)
        ):
            raise ValueError(
                f'A calibration batch has the shape {batch.shape}, but '
                f'{path} takes {tuple(s or "any" for s in sizes)}.'
            )
        count += 1
        yield batch
    if not count:
        raise ValueError(
            f'{path}: there are no calibration batches. Give some clips of '
            'the training list, a hundred are enough.'
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences advice of onnxruntime that is followed already."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
