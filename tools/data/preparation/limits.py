"""Limits what an archive may unpack to.

A small archive can hold terabytes of zeros. Videos are compressed already, so
an official archive unpacks to about its own size.
"""

import io
from pathlib import Path
from typing import BinaryIO, Optional, Tuple

from .errors import PreparationError

# Videos have a ratio of about 1, lists and JSON files of about 10.
LARGEST_RATIO = 10
# Every archive may unpack to so much, because small ones hold text.
ALWAYS_ALLOWED = 256 * 10**6


class TooLargeError(PreparationError):
    """An archive unpacks to more than it may."""


class Budget:
    """Counts the bytes that one archive unpacks to, up to a limit.

    Args:
        name (str): The archive, for the message.
        parts (tuple[Path]): Its files.
        limit (int, optional): Bytes that it may unpack to. Defaults to None:
            ``LARGEST_RATIO`` times its own size, but at least
            ``ALWAYS_ALLOWED``.

    Attributes:
        left (int): Bytes that may still come.
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
        """Takes ``count`` bytes.

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
    """Reads a stream and takes every byte from a budget.

    Args:
        file (BinaryIO): The stream.
        budget (Budget): What it may read.
    """

    def __init__(self, file: BinaryIO, budget: Budget) -> None:
        self._file = file
        self._budget = budget

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer) -> int:
        """Reads into a buffer, as ``io.RawIOBase`` wants it."""
        data = self._file.read(len(buffer))
        self._budget.spend(len(data))
        buffer[: len(data)] = data
        return len(data)
