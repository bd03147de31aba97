"""Atomic writing of files, and safe reading of files made by others.

Everything that this package writes goes through :func:`atomic_file` or one of
the functions built on it (:mod:`.writing`). A file is written under a
temporary name in its own folder, its size is checked, it is flushed to the
disk and then renamed. So a reader finds the old file or the new file, never a
part of one.

Files that somebody else may have written are read with ``read_*``
(:mod:`.reading`, :mod:`.arrays`). Nothing in a file is executed, and each
error names the file. Checkpoints are read by MMEngine's ``CheckpointLoader``,
which :mod:`dtkd_mmaction.compat.checkpoints` limits to weights.
"""

from .arrays import read_array, read_arrays, write_array, write_arrays
from .reading import (
    DamagedFileError,
    parse_json,
    read_bytes,
    read_json,
    read_text,
)
from .writing import (
    WRITING,
    Path,
    atomic_file,
    clear_left_overs,
    put_in_place,
    save_figure,
    write_bytes,
    write_json,
    write_text,
)

__all__ = [
    'WRITING',
    'DamagedFileError',
    'Path',
    'atomic_file',
    'clear_left_overs',
    'parse_json',
    'put_in_place',
    'read_array',
    'read_arrays',
    'read_bytes',
    'read_json',
    'read_text',
    'save_figure',
    'write_array',
    'write_arrays',
    'write_bytes',
    'write_json',
    'write_text',
]
