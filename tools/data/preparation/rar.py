"""Extracts RAR archives with an external program."""

import os
import shutil
import stat
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Dict, Iterator, List

from .errors import PreparationError
from .limits import Budget

# Tried in this order, because not every 7-Zip can read RAR.
RAR_TOOLS = {
    'unrar': ('unrar', 'x', '-y', '-o+', '{archive}', '{folder}/'),
    'bsdtar': ('bsdtar', '-xf', '{archive}', '-C', '{folder}'),
    '7z': ('7z', 'x', '-y', '-o{folder}', '{archive}'),
    '7zz': ('7zz', 'x', '-y', '-o{folder}', '{archive}'),
    'unar': ('unar', '-q', '-f', '-D', '-o', '{folder}', '{archive}'),
}
NO_RAR_TOOL = (
    '{archive} is a RAR archive, and none of {tools} is installed. Install '
    'one: "apt-get install unrar" (or unar, or libarchive-tools), '
    '"brew install libarchive", "conda install -c conda-forge libarchive". '
    'Or unpack the archive elsewhere and put its folder in its place.'
)
LOOK_EVERY = 0.3  # seconds between two checks of the extracted size


class RarError(Exception):
    """Raised if no program can read a RAR archive."""


def rar_tools(archive: str) -> List[str]:
    """Returns the installed programs that may read RAR archives.

    Args:
        archive (str): The archive, for messages.

    Raises:
        PreparationError: If there is none.
    """
    found = [name for name in RAR_TOOLS if shutil.which(name)]
    if not found:
        raise PreparationError(
            NO_RAR_TOOL.format(archive=archive, tools=', '.join(RAR_TOOLS))
        )
    return found


def extract_rar(path: Path, folder: Path, budget: Budget) -> None:
    """Extracts a RAR archive into a new folder.

    Args:
        path (Path): The archive.
        folder (Path): The folder.
        budget (Budget): Limit of the extracted bytes.

    Raises:
        RarError: If no program can, with the last lines of output of each.
        TooLargeError: If the budget is spent.
    """
    failures = []
    for name in rar_tools(path.name):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        command = [
            part.format(archive=path.resolve(), folder=folder.resolve())
            for part in RAR_TOOLS[name]
        ]
        with tempfile.TemporaryFile() as log:
            code = _run(command, log, folder, budget)
            log.seek(0)
            lines = log.read().decode(errors='replace').split('\n')
        if code == 0:
            budget.spend(_size(folder))
            return
        said = ' '.join(line.strip() for line in lines if line.strip())
        failures.append(f'{name} exits with {code}: {said[-300:]}')
    raise RarError('; '.join(failures))


def _run(command: List[str], log, folder: Path, budget: Budget) -> int:
    """Runs a program until it ends or has extracted too much."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # no terminal to ask for a password
    )
    try:
        while True:
            try:
                return process.wait(LOOK_EVERY)
            except subprocess.TimeoutExpired:
                size = _size(folder)
                if size > budget.left:
                    budget.spend(size)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _size(folder: Path) -> int:
    return sum(found.st_size for found in _files(folder).values())


def regular_files(folder: Path) -> Iterator[Path]:
    """Yields the files that belong to an extracted archive.

    Symbolic links, and hard links to files outside the folder, would add other
    files of the user to the data set. They are ignored.

    Args:
        folder (Path): Folder of the extracted archive.
    """
    files = _files(folder)
    names = Counter((found.st_dev, found.st_ino) for found in files.values())
    for path, found in sorted(files.items()):
        if found.st_nlink == names[found.st_dev, found.st_ino]:
            yield path


def _files(folder: Path) -> Dict[Path, os.stat_result]:
    """Finds the regular files below a folder, without following links."""
    files = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            try:
                found = path.lstat()
            except FileNotFoundError:  # the program has renamed it
                continue
            if stat.S_ISREG(found.st_mode):
                files[path] = found
    return files
