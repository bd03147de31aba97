"""Finds files, and links unpacked ones into the output folder."""

import filecmp
import os
from pathlib import Path, PurePosixPath
from typing import Callable, Dict, Iterable, List, Optional

from dtkd_mmaction.files import write_bytes

from .errors import PreparationError

# Path of a file in its archive or folder -> its path below the output folder,
# or None to ignore the file.
Route = Callable[[PurePosixPath], Optional[str]]

VIDEO_SUFFIXES = ('.avi', '.mkv', '.mov', '.mp4', '.webm')
# Suffixes of incomplete downloads of browsers, aria2 and this tool.
UNFINISHED_SUFFIXES = ('.aria2', '.crdownload', '.download', '.part')
# Folders with millions of images, which are not searched.
FRAME_FOLDERS = ('flow_frames', 'rawframes', 'rgb_frames')


def is_video(path: PurePosixPath) -> bool:
    """Returns whether a file is named like a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def is_unfinished_download(path: PurePosixPath) -> bool:
    """Returns whether a file is named like an unfinished download."""
    return path.suffix.lower() in UNFINISHED_SUFFIXES


def is_junk(path: PurePosixPath) -> bool:
    """Returns whether a file is a leftover of macOS or another program."""
    return path.name.startswith('.') or '__MACOSX' in path.parts


def without_spaces(name: str) -> str:
    """Returns a name that can be used in a list of "path label" lines."""
    return '_'.join(name.split())


def place_below(out: Path, name: str) -> Path:
    """Returns the path of a file below the output folder.

    Args:
        out (Path): The output folder.
        name (str): Path below it.

    Raises:
        PreparationError: If it leads out of the folder.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or '..' in path.parts:
        raise PreparationError(
            f'{name!r} leads out of the output folder {out}, so nothing is '
            'written. A list or an archive holds this name: fetch the '
            'official one again.'
        )
    return out / path


def find_files(
    folder: Path, problem: Callable[[str], None] = lambda text: None
) -> List[PurePosixPath]:
    """Finds all files below a folder, through links as well.

    Hidden files and extracted frames are ignored. Every folder is searched
    once, even if several links lead to it, and links to parent folders are not
    followed. So links cannot make the search endless.

    Args:
        folder (Path): It need not exist.
        problem (callable): Called with a message for every file that is
            ignored because it is not a regular file (a pipe, a socket or a
            device). Defaults to none.

    Returns:
        list[PurePosixPath]: Paths below the folder, sorted.
    """
    found = []
    real = folder.resolve()
    parents = {real, *real.parents}
    searched = set()
    folders, links = [folder], []
    while folders or links:
        # Links come last, so that a folder is found under its own name.
        current = folders.pop() if folders else links.pop(0)
        target = current.resolve()
        is_parent = current != folder and target in parents
        if is_parent or target in searched or not current.is_dir():
            continue
        searched.add(target)
        try:
            names = sorted(os.listdir(current))
        except PermissionError:
            problem(f'{current} is a folder that cannot be read.')
            continue
        for name in names:
            path = current / name
            below = PurePosixPath(path.relative_to(folder))
            if os.path.isdir(path):
                if not is_junk(below) and name not in FRAME_FOLDERS:
                    (links if path.is_symlink() else folders).append(path)
            elif os.path.isfile(path) or not os.path.exists(path):
                found.append(below)  # a link to nothing is reported later
            else:
                problem(f'{path} is not a regular file and is left out.')
    return sorted(path for path in found if not is_junk(path))


def link_files(
    folder: Path,
    files: Iterable[PurePosixPath],
    out: Path,
    route: Route,
    replace: bool = False,
) -> None:
    """Brings unpacked files to their paths: links videos, copies others.

    Args:
        folder (Path): Folder of the files.
        files (iterable[PurePosixPath]): Paths below it.
        out (Path): The output folder.
        route (callable): Path below ``folder`` -> path below ``out``, or
            None.
        replace (bool): Whether to replace existing videos. Defaults to False.

    Raises:
        PreparationError: If two different annotation files have the same
            target.
    """
    copied: Dict[str, Path] = {}
    for path in files:
        name = route(path)
        if name is None:
            continue
        source, target = folder / path, place_below(out, name)
        if target.exists() and target.samefile(source):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if not is_video(path):
            other = copied.setdefault(name, source)
            if not filecmp.cmp(other, source, shallow=False):
                raise PreparationError(
                    f'{other} and {source} differ, and both could be '
                    f'{name}. Take the wrong one away.'
                )
            write_bytes(target, source.read_bytes())  # annotations are small
        elif replace or not (target.is_file() and target.stat().st_size):
            if target.is_symlink() or target.exists():
                target.unlink()
            target.symlink_to(source.resolve())


def class_folder_route(clips: Iterable[str]) -> Route:
    """Returns the route of data sets with one folder per class.

    Args:
        clips (iterable[str]): ``class/name`` of every clip, without suffix.

    Returns:
        callable: Maps them to ``videos/class/name.suffix``. Copies of UCF101
            and the official lists differ in the case of some letters; the
            spelling of the lists is used.
    """
    exact = {clip: clip for clip in clips}
    folded = {clip.lower(): clip for clip in exact}

    def route(path: PurePosixPath) -> Optional[str]:
        if not is_video(path):
            return None
        name = without_spaces(f'{path.parent.name}/{path.stem}')
        clip = exact.get(name) or folded.get(name.lower())
        return clip and f'videos/{clip}{path.suffix.lower()}'

    return route
