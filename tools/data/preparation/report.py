"""Compares the files with the official numbers, and writes lists."""

import os
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from rich import box
from rich.console import Console
from rich.table import Table

from dtkd_mmaction.files import write_text

from .errors import PreparationError
from .files import is_video

EXAMPLES = 5
NOT_COMPLETE = (
    'The data set is not the official one, see above. With --allow-partial '
    'its lists are written nevertheless, with the clips that are there.'
)


class ClipList(NamedTuple):
    """An annotation list of MMAction2.

    Args:
        path (Path): The file to write.
        folder (Path): ``data_prefix.video`` of its clips.
        clips (list[tuple[str, int]]): Names below ``folder``, without the
            suffix, and labels.
        official (int): Official number of clips.
        official_there (int, optional): Number of clips in the official
            archives. Defaults to None: all.
    """

    path: Path
    folder: Path
    clips: List[Tuple[str, int]]
    official: int
    official_there: Optional[int] = None


class Report:
    """Collects findings and differences from the official data set.

    Args:
        out (Path): The output folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.problems: List[str] = []
        self.unusable: Dict[str, str] = {}
        self._console = Console(markup=False, highlight=False)
        self._table = Table(box=box.MARKDOWN)
        for title in ('what', 'found', 'official'):
            self._table.add_column(title)

    def problem(self, text: str) -> None:
        """Reports a difference from the official data set."""
        self.problems.append(text)
        self._console.print(f'Problem: {text}', soft_wrap=True)

    def count(self, what: str, found: int, official: int) -> None:
        """Reports a number that should be the official one."""
        self._table.add_row(what, f'{found:,}', f'{official:,}')
        if found != official:
            self.problems.append(f'{what}: {found:,} instead of {official:,}')

    def count_classes(self, found: int, official: int) -> None:
        """Reports the number of classes, which are numbered alphabetically."""
        self.count('classes', found, official)
        if found != official:
            self.problem(
                f'Labels number the {found} classes that are there: they are '
                'not those of published models.'
            )

    def count_at_least(self, what: str, found: int, official: int) -> None:
        """Reports a number that should not be below the official one."""
        self._table.add_row(what, f'{found:,}', f'{official:,} or more')
        if found < official:
            self.problems.append(
                f'{what}: {found:,}, fewer than the official {official:,}'
            )

    def size(self, path: Path, official: int) -> None:
        """Reports a file whose size is not the official one."""
        found = path.stat().st_size
        if found != official:
            hint = ', so it is probably a part only' * (found < official)
            self.problem(
                f'{path.name} has {found:,} bytes, the official one '
                f'{official:,}{hint}.'
            )

    def usable(
        self, folder: Path, index: Dict[str, str], names: Sequence[str]
    ) -> List[bool]:
        """Returns the clips that exist and are not empty; records the others.

        Args:
            folder (Path): Their expected folder.
            index (dict[str, str]): Result of :func:`index_clips`.
            names (sequence[str]): Names of the clips.
        """
        found = []
        for name in names:
            path = folder / index.get(name, name)
            if name not in index:
                self.unusable[str(path)] = 'missing'
            elif not path.exists():
                self.unusable[str(path)] = 'link to a file that is gone'
            elif not path.stat().st_size:
                self.unusable[str(path)] = 'empty'
            found.append(str(path) not in self.unusable)
        return found

    def lines(self, clip_list: ClipList, index: Dict[str, str]) -> List[str]:
        """Returns the lines of a list, with the clips that can be used.

        Args:
            clip_list (ClipList): The list with all clips.
            index (dict[str, str]): Result of :func:`index_clips`.
        """
        name = clip_list.path.name
        names = [clip for clip, _ in clip_list.clips]
        usable = self.usable(clip_list.folder, index, names)
        self.count(f'{name}: clips named', len(names), clip_list.official)
        there = clip_list.official_there or clip_list.official
        self.count_at_least(f'{name}: clips there', sum(usable), there)
        return [
            f'{index[clip]} {label}'
            for (clip, label), is_usable in zip(clip_list.clips, usable)
            if is_usable
        ]

    def verdict(self, allow_partial: bool) -> None:
        """Prints all findings.

        Raises:
            PreparationError: If something differs without ``--allow-partial``.
        """
        self._console.print(self._table)
        self._write_unusable()
        for text in self.problems:
            self._console.print(f'Differs: {text}', soft_wrap=True)
        if self.problems and not allow_partial:
            raise PreparationError(NOT_COMPLETE)

    def _write_unusable(self) -> None:
        """Reports the clips that are missing or empty, and writes a list."""
        path = self.out / 'unusable_clips.txt'
        if not self.unusable:
            path.unlink() if path.exists() else None
            return
        rows = [f'{clip} {why}' for clip, why in sorted(self.unusable.items())]
        write_lines(path, rows)
        self._console.print(
            f'{len(rows):,} clips are missing or empty and left out of the '
            f'lists. All are named in {path}; the first:',
            soft_wrap=True,
        )
        for row in rows[:EXAMPLES]:
            self._console.print(f'  {row}', soft_wrap=True)


def index_clips(folder: Path) -> Dict[str, str]:
    """Returns the videos below a folder: path without suffix -> path.

    Args:
        folder (Path): It need not exist.
    """
    index = {}
    for root, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(root, name).relative_to(folder)
            if is_video(path) and not name.startswith('.'):
                index[path.with_suffix('').as_posix()] = path.as_posix()
    return index


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Writes the lines of a file atomically."""
    write_text(path, ''.join(f'{line}\n' for line in lines))
