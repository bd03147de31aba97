"""Maps the files of a teacher cache into memory, a few at a time."""

import errno
import os
from collections import OrderedDict
from typing import Any, Optional, Tuple

import numpy as np

from ..files import read_array

# Each map holds a file descriptor, of which a process often has 1,024.
MAX_OPEN = 64
TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)

Shape = Tuple[Optional[int], ...]


class OpenShards:
    """Keeps the most recently used files open.

    Args:
        max_open (int): Files that are open at once. Defaults to
            :data:`MAX_OPEN`.
    """

    def __init__(self, max_open: int = MAX_OPEN) -> None:
        self.max_open = max_open
        self._maps: OrderedDict[str, np.ndarray] = OrderedDict()

    def get(self, path: str, shape: Shape, dtype: Any) -> np.ndarray:
        """Returns the array in a file, mapped and read-only.

        Args:
            path (str): An ``.npy`` file.
            shape (tuple): Expected shape; None in it is any length.
            dtype: Expected type.

        Raises:
            FileNotFoundError: If there is no such file.
            DamagedFileError: If the file is damaged or holds another array.
            OSError: If the file cannot be opened at the moment.
        """
        if path in self._maps:
            self._maps.move_to_end(path)
            return self._maps[path]
        while len(self._maps) >= self.max_open:
            self._maps.popitem(last=False)
        try:
            found = read_array(path, shape, dtype, mmap=True)
        except OSError as error:
            if error.errno not in TOO_MANY_FILES:
                raise
            self._maps.clear()
            found = self._read_with_little_room(path, shape, dtype)
        self._maps[path] = found
        return found

    def _read_with_little_room(
        self, path: str, shape: Shape, dtype: Any
    ) -> np.ndarray:
        try:
            return read_array(path, shape, dtype, mmap=True)
        except OSError as error:
            if error.errno not in TOO_MANY_FILES:
                raise
            raise OSError(
                error.errno,
                f'{os.strerror(error.errno)}. The file is intact: this '
                'process may not open more files. Raise the limit '
                '(`ulimit -n 4096`), or use fewer data loader workers',
                path,
            ) from error

    def close(self) -> None:
        """Closes all files."""
        self._maps.clear()

    def __deepcopy__(self, memo: dict) -> 'OpenShards':
        """Opens the files anew in a copy of a model."""
        return type(self)(self.max_open)

    def __reduce__(self) -> tuple:
        """Opens the files anew in another process."""
        return type(self), (self.max_open,)
