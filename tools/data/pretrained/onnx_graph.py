"""Runs the published ONNX graph of DINOv2, to check a conversion against it.

Needs onnxruntime, which is optional.
"""

import importlib.util
from typing import Tuple

import numpy as np

from .onnx_weights import MODEL_GRAPH

INPUT = 'input_image'
TOKENS = '/backbone/layernorm/Add_1_output_0'
POSITIONS = '/backbone/embeddings/Concat_6_output_0'
GRAPH_OUTPUT, VALUE_NAME = 12, 1


def has_onnxruntime() -> bool:
    """Returns whether onnxruntime is installed."""
    return importlib.util.find_spec('onnxruntime') is not None


def graph_features(
    content: bytes, image: np.ndarray
) -> Tuple[np.ndarray, np.ndarray]:
    """Computes tokens and position embeddings with the original graph.

    Args:
        content (bytes): The ONNX file.
        image (np.ndarray): (1, 3, 224, 224), normalised, float32.

    Returns:
        tuple[np.ndarray, np.ndarray]: Both (1, 257, 384).
    """
    import onnxruntime

    # Two messages one after the other are one merged message, so inner
    # values become outputs of the graph without decoding it.
    content = content + output(TOKENS) + output(POSITIONS)
    session = onnxruntime.InferenceSession(
        content, providers=['CPUExecutionProvider']
    )
    tokens, positions = session.run([TOKENS, POSITIONS], {INPUT: image})
    return tokens, positions


def output(name: str) -> bytes:
    """Encodes a model that holds nothing but the name of an output."""
    return message(
        MODEL_GRAPH,
        message(GRAPH_OUTPUT, message(VALUE_NAME, name.encode())),
    )


def message(number: int, content: bytes) -> bytes:
    """Encodes one field of Protocol Buffers, shorter than 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content
