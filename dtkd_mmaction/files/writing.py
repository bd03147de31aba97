"""Writes files atomically: whole or absent."""

import errno
import json
import os
import os.path as osp
import re
import secrets
import shutil
import time
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, Iterator, Optional, Set, Tuple, Union

from ..file_lock import fcntl, lock_file

Path = Union[str, os.PathLike]

# Ending of temporary names, and the whole of it.
WRITING = '.writing'
TEMPORARY = re.compile(r'\.[0-9a-f]{12}\.writing$')
# Linux allows 255 bytes in a name; the rest is for the temporary ending.
MAX_NAME_BYTES = 220
# Where locks are missing, older temporary files have no writer any more.
LEFT_OVER_SECONDS = 24 * 3600

# Temporary files that this process is writing, and folders in which it has
# written.
_in_progress: Set[str] = set()
_written_in: Set[str] = set()


def write_bytes(path: Path, *parts: Any) -> None:
    """Writes a file atomically; creates its folder if it is missing.

    Args:
        path (str or Path): The file.
        *parts (bytes-like): Its content, in order.

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
        with open(path, 'wb') as device:
            yield device
        return
    temporary: Optional[str] = None
    file: Optional[BinaryIO] = None
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
    for entry in os.scandir(os.fspath(folder)):
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
