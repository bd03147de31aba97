"""Reads the weights of an ONNX file without the ``onnx`` package.

An ONNX file is one Protocol Buffers message. Reading its weights needs four
message types and two wire types, so this file decodes them directly. Field
numbers are those of ``onnx.proto3``.
"""

from typing import Dict, Iterator, List, Tuple, Union

import numpy as np

# Field numbers of onnx.proto3.
MODEL_GRAPH = 7
GRAPH_NODE, GRAPH_INITIALIZER = 1, 5
NODE_INPUT, NODE_NAME, NODE_TYPE = 1, 3, 4
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW = 1, 2, 8, 9
# TensorProto.DataType
DTYPES = {1: '<f4', 7: '<i8', 10: '<f2', 11: '<f8'}


def read_varint(data: memoryview, start: int) -> Tuple[int, int]:
    """Reads a variable-length integer.

    Returns:
        tuple[int, int]: The integer and the position behind it.
    """
    value = shift = 0
    while True:
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
        shift += 7


def fields(data: memoryview) -> Iterator[Tuple[int, Union[int, memoryview]]]:
    """Iterates over the fields of a message.

    Args:
        data (memoryview): The encoded message.

    Yields:
        tuple[int, int or memoryview]: Field number and value: an integer,
            or the bytes of a string, a nested message or a fixed number.

    Raises:
        ValueError: If the bytes are no message.
    """
    position = 0
    while position < len(data):
        key, position = read_varint(data, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, position = read_varint(data, position)
            yield number, value
            continue
        if wire_type == 2:
            length, position = read_varint(data, position)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f'wire type {wire_type} at byte {position}')
        if position + length > len(data):
            raise ValueError(f'cut off at byte {len(data)}')
        yield number, data[position : position + length]
        position += length


def read_tensor(message: memoryview) -> Tuple[str, np.ndarray]:
    """Decodes a ``TensorProto`` that stores its values as raw bytes."""
    name, dims, data_type, raw = '', [], 0, b''
    for number, value in fields(message):
        if number == TENSOR_DIMS:
            if isinstance(value, int):
                dims.append(value)
            else:  # packed
                position = 0
                while position < len(value):
                    dim, position = read_varint(value, position)
                    dims.append(dim)
        elif number == TENSOR_TYPE:
            data_type = value
        elif number == TENSOR_NAME:
            name = bytes(value).decode()
        elif number == TENSOR_RAW:
            raw = value
    if data_type not in DTYPES:
        raise ValueError(f'tensor {name!r} has the data type {data_type}')
    return name, np.frombuffer(raw, DTYPES[data_type]).reshape(dims)


def read_onnx(data: bytes) -> Dict[str, np.ndarray]:
    """Reads all initializers of an ONNX file.

    Exporters leave the matrices of linear layers anonymous
    (``onnx::MatMul_1966``). Such a matrix is also returned under the name of
    the ``MatMul`` node that reads it.

    Args:
        data (bytes): The file.

    Returns:
        dict[str, np.ndarray]: Name of the initializer, or of the ``MatMul``
            node, -> values.

    Raises:
        ValueError: If it is no ONNX file, or stores a tensor in a form that
            this reader does not know.
    """
    tensors: Dict[str, np.ndarray] = {}
    inputs: Dict[str, List[str]] = {}
    try:
        graphs = [v for n, v in fields(memoryview(data)) if n == MODEL_GRAPH]
        for number, message in fields(graphs[0]):
            if number == GRAPH_INITIALIZER:
                name, tensor = read_tensor(message)
                tensors[name] = tensor
            elif number == GRAPH_NODE:
                node = list(fields(message))
                text = {n: bytes(v) for n, v in node if n != NODE_INPUT}
                if text.get(NODE_TYPE) == b'MatMul':
                    inputs[text[NODE_NAME].decode()] = [
                        bytes(v).decode() for n, v in node if n == NODE_INPUT
                    ]
    except (ValueError, IndexError, TypeError) as error:
        raise ValueError(f'not a readable ONNX file: {error}') from error
    for node, names in inputs.items():
        for name in names:
            if name in tensors:
                tensors[node] = tensors[name]
    return tensors
