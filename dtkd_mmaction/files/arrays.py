"""Files of NumPy arrays, without pickle."""

import io
import json
import math
import os
import zipfile
from typing import Any, Dict, Optional, Tuple

import numpy as np

from .reading import DamagedFileError, open_regular, read_bytes
from .writing import Path, write_bytes

# Name of the JSON value among the arrays of a file.
INFO = 'info'

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes an ``.npy`` file atomically, see :func:`write_bytes`.

    ``np.save`` loses the error of a full disk in its last buffer.
    """
    array = np.asarray(array, order='C')
    _refuse_objects(path, array)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, np.lib.format.header_data_from_array_1_0(array)
    )
    write_bytes(path, header.getvalue(), array.reshape(-1).view(np.uint8))


def write_arrays(path: Path, arrays: Dict[str, np.ndarray], info: Any) -> None:
    """Writes named arrays and a JSON value to an uncompressed ``.npz`` file.

    The format holds a checksum per array, which :func:`read_arrays` compares.

    Args:
        path (str or Path): The file.
        arrays (dict[str, np.ndarray]): Arrays without objects.
        info: A value for ``json.dumps``.
    """
    _refuse_objects(path, *arrays.values())
    # The format has no checksum over the names of its arrays.
    text = json.dumps(dict(names=list(arrays), info=info))
    content: Dict[str, Any] = dict(arrays)
    content[INFO] = np.frombuffer(text.encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, **content)
    write_bytes(path, file.getbuffer())


def read_array(
    path: Path,
    shape: Optional[tuple] = None,
    dtype: Any = None,
    mmap: bool = False,
) -> np.ndarray:
    """Reads an ``.npy`` file without pickle.

    Args:
        path (str or Path): The file.
        shape (tuple, optional): Its expected shape; None in it is any length.
        dtype (optional): Its expected type.
        mmap (bool): Whether to map the file instead of reading it. Defaults
            to False.

    Returns:
        np.ndarray: Read-only array.

    Raises:
        FileNotFoundError: If there is none.
        DamagedFileError: If it is empty, cut, no array, an array of objects,
            or of another shape or type.
    """
    with open_regular(path) as file:
        try:
            version = np.lib.format.read_magic(file)
            if version not in _HEADERS:
                raise ValueError(f'version {version} of the format')
            found_shape, fortran, found_dtype = _HEADERS[version](file)
        except OSError:
            raise
        except Exception as error:  # any error that altered bytes can cause
            raise DamagedFileError(
                f'{path} is not a NumPy array file, or it is cut: {error}'
            ) from None
        if found_dtype.hasobject:
            raise DamagedFileError(
                f'{path} holds Python objects, which are not read because '
                'they can run code.'
            )
        start, size = file.tell(), os.fstat(file.fileno()).st_size
        expected = start + found_dtype.itemsize * math.prod(found_shape)
        if size != expected:
            raise DamagedFileError(
                f'{path} has {size} bytes, its header says {expected}: it is '
                'cut or altered.'
            )
        _check_array(str(path), found_shape, found_dtype, shape, dtype)
        order: Any = 'F' if fortran else 'C'
        if mmap and math.prod(found_shape) > 0:
            return np.memmap(file, found_dtype, 'r', start, found_shape, order)
        content = file.read()
    flat = np.frombuffer(content, found_dtype)
    return flat.reshape(found_shape, order=order)


def read_arrays(path: Path) -> Tuple[Dict[str, np.ndarray], Any]:
    """Reads what :func:`write_arrays` wrote, and compares the checksums.

    Returns:
        tuple[dict[str, np.ndarray], Any]: The arrays and the JSON value.

    Raises:
        FileNotFoundError: If there is none.
        DamagedFileError: If it is empty, cut, altered, or of another kind.
    """
    content = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            # A small file cannot claim a large array.
            if any(
                member.compress_type != zipfile.ZIP_STORED
                or member.file_size > len(content)
                for member in archive.infolist()
            ):
                raise ValueError('it holds compressed entries')
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            arrays = {name: arrays[name] for name in arrays.files}
        told = json.loads(arrays.pop(INFO).tobytes())
        if list(arrays) != told['names']:
            raise ValueError(f'it lacks some of {told["names"]}')
    except Exception as error:  # any error that altered bytes can cause
        raise DamagedFileError(
            f'{path} is damaged, or not a file of this kind: '
            f'{type(error).__name__}: {error}'
        ) from None
    return arrays, told['info']


def _refuse_objects(path: Path, *arrays: np.ndarray) -> None:
    if any(array.dtype.hasobject for array in arrays):
        raise TypeError(f'{path}: arrays of objects cannot be written.')


def _check_array(
    name: str, shape: tuple, dtype: np.dtype, wanted: Optional[tuple], kind
) -> None:
    fits = wanted is None or (
        len(shape) == len(wanted)
        and all(w in (None, s) for s, w in zip(shape, wanted))
    )
    if not fits or (kind is not None and dtype != np.dtype(kind)):
        raise DamagedFileError(
            f'{name} holds an array of shape {shape} and type {dtype}, '
            f'expected shape {wanted} and type {kind}.'
        )
