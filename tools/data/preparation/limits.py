"""Limits the unpacked size of archives.

A small archive can contain terabytes of zeros. Videos are already compressed,
so the unpacked size of an official archive is about its own size.
"""

import io
from pathlib import Path
from typing import BinaryIO, Optional, Tuple

from .errors import PreparationError

# Videos have a ratio of about 1, lists and JSON files of about 10.
LARGEST_RATIO = 10
# Allowed for every archive, because small ones contain text.
ALWAYS_ALLOWED = 256 * 10**6


class TooLargeError(PreparationError):
    """Raised if the unpacked size of an archive exceeds its limit."""


class Budget:
    """Counts the unpacked bytes of one archive, up to a limit.

    Args:
        name (str): The archive, for messages.
        parts (tuple[Path]): Its files.
        limit (int, optional): Largest unpacked size in bytes. Defaults to
            None: ``LARGEST_RATIO`` times its own size, but at least
            ``ALWAYS_ALLOWED``.

    Attributes:
        left (int): Remaining bytes.
    """

    def __init__(
        self, name: str, parts: Tuple[Path, ...], limit: Optional[int] = None
    ) -> None:
        self.name = name
        self.size = sum(part.stat().st_size for part in parts)
        if limit is None:
            limit = max(LARGEST_RATIO * self.size, ALWAYS_ALLOWED)
        self.limit = self.left = limit

    def spend(self, count: int) -> None:
        """Subtracts ``count`` bytes.

        Raises:
            TooLargeError: If the archive has more than its limit.
        """
        self.left -= count
        if self.left < 0:
            raise TooLargeError(
                f'{self.name} has {self.size:,} bytes and unpacks to more '
                f'than {self.limit:,}. Official archives do not, so it is '
                'refused. If you know that it is right, run again with '
                '--max-unpacked GB.'
            )


class CountedReader(io.RawIOBase):
    """Reads a stream and subtracts every byte from a budget.

    Args:
        file (BinaryIO): The stream.
        budget (Budget): Limit of the bytes.
    """

    def __init__(self, file: BinaryIO, budget: Budget) -> None:
        self._file = file
        self._budget = budget

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer) -> int:
        """Reads into a buffer, as ``io.RawIOBase`` requires."""
        data = self._file.read(len(buffer))
        self._budget.spend(len(data))
        buffer[: len(data)] = data
        return len(data)
