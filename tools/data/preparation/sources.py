"""Brings a folder of downloaded files into MMAction2's layout."""

import re
import zlib
from pathlib import Path
from typing import Iterable, List, Optional

from .archives import Archive, unpack
from .files import (
    Route,
    find_files,
    is_unfinished_download,
    link_files,
)
from .report import Report


class Sources:
    """Downloaded files: archives, and files that are already unpacked.

    Args:
        folder (Path): The folder, which is searched recursively.
        out (Path): The output folder.
        report (Report): Collects problems of the files.
        workers (int): Number of archives that are unpacked at the same time.
        limit (int, optional): Largest unpacked size of one archive in bytes.
            Defaults to None: see :class:`.Budget`.

    Attributes:
        files (list[PurePosixPath]): Paths of all files below ``folder``.
    """

    def __init__(
        self,
        folder: Path,
        out: Path,
        report: Report,
        workers: int,
        limit: Optional[int] = None,
    ) -> None:
        self.folder = folder
        self.out = out
        self.report = report
        self.workers = workers
        self.limit = limit
        self.files = find_files(folder, report.problem)
        for path in self.files:
            if is_unfinished_download(path):
                report.problem(f'{path} is a download that is not complete.')

    def archives(self, pattern: str) -> List[Archive]:
        """Returns the archives whose file name matches an expression."""
        return [
            Archive.of_file(self.folder / path, str(path))
            for path in self.files
            if re.fullmatch(pattern, path.name, re.IGNORECASE)
        ]

    def place_annotations(self, route: Route, pattern: str) -> None:
        """Copies annotation files, which are small, in every run.

        Args:
            route (callable): Path of a file -> its path below ``out``.
            pattern (str): Matches the names of archives that contain
                annotations.
        """
        link_files(self.folder, self.files, self.out, route)
        self._unpack(self.archives(pattern), route)

    def place_videos(self, route: Route, archives: Iterable[Archive]) -> None:
        """Links unpacked videos and unpacks the others.

        It continues where an earlier run stopped.

        Args:
            route (callable): Path of a file -> its path below ``out``.
            archives (iterable[Archive]): Archives with videos.
        """
        link_files(self.folder, self.files, self.out, route)
        # With other annotations, other files of the archives may be needed.
        memory = checksum(self.out / 'annotations')
        self._unpack(archives, route, memory)

    def replace_videos(
        self, route: Route, archives: Iterable[Archive]
    ) -> None:
        """Places corrected videos, which replace others."""
        link_files(self.folder, self.files, self.out, route, replace=True)
        self._unpack(archives, route)

    def _unpack(
        self,
        archives: Iterable[Archive],
        route: Route,
        memory: Optional[str] = None,
    ) -> None:
        problems = unpack(
            archives, self.out, route, self.workers, memory, self.limit
        )
        for text in problems:
            self.report.problem(text)


def checksum(folder: Path) -> str:
    """Returns a checksum of the files directly in a folder."""
    value = 0
    for path in sorted(folder.iterdir()):
        if path.is_file():
            value = zlib.crc32(path.read_bytes(), value)
    return f'{value:08x}'
