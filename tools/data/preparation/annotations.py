"""Reads annotation files made by others.

Every error names the file, the line and what was expected. Names in a list
become names of files and folders, so :func:`check_name` refuses those that
would lead out of the output folder.
"""

import csv
import io
import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

from .errors import PreparationError


def read_text(path: Path) -> str:
    """Reads a UTF-8 file, with or without a byte-order mark.

    Args:
        path (Path): The file.

    Raises:
        PreparationError: If it contains other bytes.
    """
    data = path.read_bytes()
    try:
        return data.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        line = data.count(b'\n', 0, error.start) + 1
        raise PreparationError(
            f'{path}, line {line}: the byte 0x{data[error.start]:02x} is not '
            'UTF-8 text. Save the file as UTF-8, or fetch the official one '
            'again.'
        ) from None


def read_lines(path: Path) -> Iterator[Tuple[str, str]]:
    """Yields the lines of a text file that are not blank.

    Args:
        path (Path): The file.

    Yields:
        tuple[str, str]: ``'<path>, line <number>'`` for messages, and the
        line.
    """
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            yield f'{path}, line {number}', line


def read_csv(
    path: Path, columns: Sequence[str], expected: str
) -> List[Tuple[str, Dict[str, str]]]:
    """Reads the rows of a CSV file.

    Args:
        path (Path): The file.
        columns (sequence[str]): Columns that must not be empty.
        expected (str): Name of the expected file, for messages.

    Returns:
        list[tuple[str, dict]]: ``'<path>, line <number>'`` for messages, and
        the row.

    Raises:
        PreparationError: If a column is missing or a row is malformed.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=''))
    rows = []
    try:
        found = reader.fieldnames or []
        if not set(columns) <= set(found):
            raise PreparationError(
                f'{path} has the columns {list(found)}, and it needs '
                f'{list(columns)}: it is not {expected}.'
            )
        for row in reader:
            place = f'{path}, line {reader.line_num}'
            if None in row or None in [row[name] for name in columns]:
                raise PreparationError(
                    f'{place}: the row has more or fewer fields than the '
                    f'{len(found)} columns. Fetch the official file again.'
                )
            rows.append((place, row))
    except csv.Error as error:
        raise PreparationError(
            f'{path}, line {reader.line_num + 1} is not CSV ({error}). Fetch '
            'the official file again.'
        ) from error
    return rows


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Args:
        path (Path): The file.

    Raises:
        PreparationError: If it is cut off or not JSON.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise PreparationError(
            f'{path} is not a JSON file ({error}). Fetch it again.'
        ) from error


def check_name(name: str, kind: str, place: str) -> str:
    """Checks that a name from a list can name one file or folder.

    Args:
        name (str): The name.
        kind (str): Kind of the name for messages, such as ``'class'``.
        place (str): File and line, for messages.

    Raises:
        PreparationError: If it is a path, or not printable.
    """
    plain = name.isprintable() and not set(name) & set('/\\')
    if not plain or name.strip() in ('', '.', '..'):
        raise PreparationError(
            f'{place}: the {kind} {name!r} is not a plain name. It would '
            'become the name of a file or a folder, so it must be printable '
            'and without "/", "\\" and "..". Fetch the official file again.'
        )
    return name
