"""Atomic writing of files, and safe reading of files made by others.

Everything that this package writes goes through :func:`atomic_file` or one of
the functions built on it. A file is written under a temporary name in its own
folder, its size is checked, it is flushed to the disk and then renamed. So a
reader finds the old file or the new file, never a part of one.

Files that somebody else may have written are read with ``read_*``. Nothing in
a file is executed, and each error names the file. Checkpoints are read by
MMEngine's ``CheckpointLoader``, which :mod:`dtkd_mmaction.compat.checkpoints`
limits to weights.
"""

import errno
import io
import json
import math
import os
import os.path as osp
import re
import secrets
import shutil
import stat
import time
import zipfile
from contextlib import contextmanager, suppress
from typing import (
    Any,
    BinaryIO,
    Dict,
    Iterable,
    Iterator,
    Optional,
    Set,
    Tuple,
    Union,
)

import numpy as np

from .file_lock import fcntl, lock_file

Path = Union[str, os.PathLike]

# Ending of temporary names, and the whole of it.
WRITING = '.writing'
TEMPORARY = re.compile(r'\.[0-9a-f]{12}\.writing$')
# Linux allows 255 bytes in a name; the rest is for the temporary ending.
MAX_NAME_BYTES = 220
INFO = 'info'

# Where locks are missing, older temporary files have no writer any more.
LEFT_OVER_SECONDS = 24 * 3600

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}

# Temporary files that this process is writing, and folders in which it has
# written.
_in_progress: Set[str] = set()
_written_in: Set[str] = set()


class DamagedFileError(ValueError):
    """A file that is empty, cut, altered, or not of the expected kind."""


# Writing


def write_bytes(path: Path, *parts: Union[bytes, memoryview]) -> None:
    """Writes a file atomically; creates its folder if it is missing.

    Args:
        path (str or Path): The file.
        *parts (bytes or memoryview): Its content, in order.

    Raises:
        OSError: If it cannot be written. The message holds the file's name,
            the bytes needed and the bytes free.
    """
    size = sum(memoryview(part).nbytes for part in parts)
    with atomic_file(path, size) as file:
        for part in parts:
            file.write(part)


def write_text(path: Path, text: str) -> None:
    """Writes text in UTF-8 atomically, see :func:`write_bytes`."""
    write_bytes(path, text.encode('utf-8'))


def write_json(
    path: Path, content: Any, indent: Optional[int] = 2, **options
) -> None:
    """Writes JSON atomically, see :func:`write_bytes`.

    Args:
        path (str or Path): The file.
        content: A value for ``json.dumps``.
        indent (int, optional): Spaces per level. Defaults to 2.
        **options: Other options of ``json.dumps``.
    """
    write_text(path, json.dumps(content, indent=indent, **options) + '\n')


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
    text = np.frombuffer(text.encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, **{INFO: text, **arrays})
    write_bytes(path, file.getbuffer())


@contextmanager
def atomic_file(path: Path, size: Optional[int] = None) -> Iterator[BinaryIO]:
    """Opens a file for writing, which replaces ``path`` on success.

    A temporary file is locked while its process lives, so
    :func:`clear_left_overs` of another process leaves it alone. If the block
    raises, the file at ``path`` stays as it was and nothing is left behind.
    A process that is killed leaves its temporary file; the next one that
    writes in the folder removes it.

    Args:
        path (str or Path): The file. A symbolic link is followed. A device
            or a pipe, such as ``/dev/stdout``, is written directly.
        size (int, optional): Bytes that it must have.

    Yields:
        BinaryIO: The open file.

    Raises:
        OSError: If it cannot be written, see :func:`write_bytes`.
    """
    path = osp.realpath(os.fspath(path))
    if osp.exists(path) and not osp.isfile(path):
        with open(path, 'wb') as file:
            yield file
        return
    temporary = file = None
    try:
        try:
            os.makedirs(osp.dirname(path), exist_ok=True)
            if osp.dirname(path) not in _written_in:
                _written_in.add(osp.dirname(path))
                clear_left_overs(osp.dirname(path))
            temporary, file = _open_temporary(path)
        except OSError as error:
            raise _write_error(error, path, size) from error
        _in_progress.add(file.name)
        yield file
        file.flush()
        os.fsync(file.fileno())
        written = os.fstat(file.fileno()).st_size
        if size is not None and written != size:
            raise OSError(
                errno.EIO, f'{written} bytes arrived on the disk of {size}'
            )
        if fcntl is None:
            file.close()  # Windows renames no open file
        os.replace(temporary, path)
        temporary = None
        _sync(osp.dirname(path))
    except OSError as error:
        if error.filename not in (None, temporary):
            raise  # the block failed at some other file
        raise _write_error(error, path, size) from error
    finally:
        if file is not None:
            with suppress(OSError):  # what is buffered is lost anyway
                file.close()
            _in_progress.discard(file.name)
        if temporary is not None:
            with suppress(FileNotFoundError):
                os.remove(temporary)


def put_in_place(part: Path, path: Path) -> None:
    """Gives a complete file its name, such as a download that was continued.

    Args:
        part (str or Path): The file, in the same folder.
        path (str or Path): Its name from now on.
    """
    _sync(part)
    os.replace(part, path)
    _sync(osp.dirname(osp.realpath(path)))


def save_figure(figure: Any, path: Path, **options) -> None:
    """Writes a Matplotlib figure atomically.

    Args:
        figure (matplotlib.figure.Figure): The figure.
        path (str or Path): The file; its suffix is the format.
        **options: Options of ``figure.savefig``.
    """
    kind = osp.splitext(os.fspath(path))[1][1:] or 'png'
    with atomic_file(path) as file:
        figure.savefig(file, format=kind, **options)


def clear_left_overs(folder: Path) -> None:
    """Removes temporary files of processes that no longer run.

    Args:
        folder (str or Path): A folder in which files are written; subfolders
            are not searched.
    """
    if not osp.isdir(folder):
        return
    for entry in os.scandir(folder):
        if (
            TEMPORARY.search(entry.name)
            and entry.is_file(follow_symlinks=False)
            and osp.realpath(entry.path) not in _in_progress
        ):
            with suppress(OSError), open(entry.path, 'r+b') as file:
                if _is_left_over(file):
                    os.remove(entry.path)


def _is_left_over(file: BinaryIO) -> bool:
    try:
        lock_file(file.fileno())
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        age = time.time() - os.fstat(file.fileno()).st_mtime
        return age > LEFT_OVER_SECONDS
    return True


def _open_temporary(path: str) -> Tuple[str, BinaryIO]:
    folder, name = osp.split(path)
    short = os.fsdecode(os.fsencode(name)[:MAX_NAME_BYTES])
    while True:
        temporary = osp.join(
            folder, f'{short}.{secrets.token_hex(6)}{WRITING}'
        )
        file = open(temporary, 'x+b')
        try:
            lock_file(file.fileno())
        except BlockingIOError:  # another process is just removing it
            pass
        except OSError:  # a file system without locks
            return temporary, file
        else:
            if osp.exists(temporary):
                return temporary, file
        file.close()


def _sync(path: Path) -> None:
    """Makes a file, or renames in a folder, survive a power failure.

    Systems that cannot do so for a folder raise an error.
    """
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_error(error: OSError, path: str, size: Optional[int]) -> OSError:
    folder = osp.dirname(path)
    while not osp.isdir(folder):
        folder = osp.dirname(folder)
    free = shutil.disk_usage(folder).free
    needed = '' if size is None else f'{size:,} bytes are needed, '
    return OSError(
        error.errno,
        f'{error.strerror or error}: the file could not be written '
        f'({needed}{free:,} bytes are free in {folder})',
        path,
    )


def _refuse_objects(path: Path, *arrays: np.ndarray) -> None:
    if any(array.dtype.hasobject for array in arrays):
        raise TypeError(f'{path}: arrays of objects cannot be written.')


# Reading


def read_bytes(path: Path) -> bytes:
    """Reads a regular file.

    Raises:
        FileNotFoundError: If there is none.
        DamagedFileError: If it is empty, or a folder, a pipe or a device.
    """
    with _open_regular(path) as file:
        content = file.read()
    if not content:
        raise DamagedFileError(f'{path} is empty.')
    return content


def read_text(path: Path) -> str:
    """Reads text in UTF-8; a byte-order mark is skipped.

    Raises:
        FileNotFoundError: If there is none.
        DamagedFileError: If it is empty, no regular file, or not UTF-8.
    """
    try:
        return read_bytes(path).decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise DamagedFileError(f'{path} is not UTF-8 text: {error}.') from None


def read_json(path: Path, kind: type = dict, keys: Iterable[str] = ()) -> Any:
    """Reads a JSON file.

    Args:
        path (str or Path): The file.
        kind (type): Type of the outermost value. Defaults to ``dict``.
        keys (iterable of str): Keys that it must have.

    Raises:
        FileNotFoundError: If there is none.
        DamagedFileError: If it is empty, cut, no JSON, or of another shape.
    """
    return parse_json(read_text(path), str(path), kind, keys)


def parse_json(
    text: str, name: str, kind: type = dict, keys: Iterable[str] = ()
) -> Any:
    """Parses JSON, see :func:`read_json`; ``name`` is for messages."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f'{name} is not valid JSON: {error}.') from None
    if not isinstance(content, kind):
        raise DamagedFileError(
            f'{name} holds a JSON {type(content).__name__}, expected a '
            f'{kind.__name__}.'
        )
    missing = [key for key in keys if key not in content]
    if missing:
        raise DamagedFileError(
            f'{name} lacks the keys {missing}; it has {list(content)[:20]}.'
        )
    return content


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
    with _open_regular(path) as file:
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
        order = 'F' if fortran else 'C'
        if mmap and math.prod(found_shape):
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


def _open_regular(path: Path) -> BinaryIO:
    """Opens a regular file; refuses a pipe, which could block forever."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DamagedFileError(f'{path} is not a regular file.')
    return os.fdopen(descriptor, 'rb')


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
