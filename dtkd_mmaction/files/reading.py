"""Reads files that somebody else may have written."""

import json
import os
import stat
from io import BufferedReader
from typing import Any, Iterable, Type

from .writing import Path


class DamagedFileError(ValueError):
    """A file that is empty, cut, altered, or not of the expected kind."""


def read_bytes(path: Path) -> bytes:
    """Reads a regular file.

    Raises:
        FileNotFoundError: If there is none.
        DamagedFileError: If it is empty, or a folder, a pipe or a device.
    """
    with open_regular(path) as file:
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


def read_json(
    path: Path, kind: Type[Any] = dict, keys: Iterable[str] = ()
) -> Any:
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
    text: str, name: str, kind: Type[Any] = dict, keys: Iterable[str] = ()
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


def open_regular(path: Path) -> BufferedReader:
    """Opens a regular file; refuses a pipe, which could block forever."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DamagedFileError(f'{path} is not a regular file.')
    return os.fdopen(descriptor, 'rb')
