"""Finds files, and puts unpacked ones where they belong."""

import filecmp
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import Callable, Dict, Iterable, List, Optional

from .errors import PreparationError

# Where a file goes, below the output folder; None for one to leave out.
# It is asked for the path of the file in its archive or folder.
Route = Callable[[PurePosixPath], Optional[str]]

VIDEO_SUFFIXES = ('.avi', '.mkv', '.mov', '.mp4', '.webm')
# What browsers, aria2 and this tool call what is not complete yet.
UNFINISHED_SUFFIXES = ('.aria2', '.crdownload', '.download', '.part')
# Millions of pictures that are not looked at.
FRAME_FOLDERS = ('flow_frames', 'rawframes', 'rgb_frames')


def is_video(path: PurePosixPath) -> bool:
    """Whether it is a video by its name."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def is_unfinished_download(path: PurePosixPath) -> bool:
    """Whether it is one by its name."""
    return path.suffix.lower() in UNFINISHED_SUFFIXES


def is_junk(path: PurePosixPath) -> bool:
    """Whether it is what macOS and other programs leave behind."""
    return path.name.startswith('.') or '__MACOSX' in path.parts


def without_spaces(name: str) -> str:
    """A name that can stand in a list of "path label" lines."""
    return '_'.join(name.split())


def find_files(folder: Path) -> List[PurePosixPath]:
    """All files below a folder, through links as well.

    Hidden files and extracted frames are left out.

    Args:
        folder (Path): It need not exist.

    Returns:
        list[PurePosixPath]: Paths below the folder, sorted.
    """
    found = []
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [
            name
            for name in folders
            if not name.startswith('.') and name not in FRAME_FOLDERS
        ]
        base = PurePosixPath(Path(root).relative_to(folder).as_posix())
        found += [base / name for name in names]
    return sorted(path for path in found if not is_junk(path))


def link_files(
    folder: Path,
    files: Iterable[PurePosixPath],
    out: Path,
    route: Route,
    replace: bool = False,
) -> None:
    """Put unpacked files where they belong: videos as links, others copied.

    Args:
        folder (Path): Where the files are.
        files (iterable[PurePosixPath]): Paths below it.
        out (Path): The output folder.
        route (callable): Path below ``folder`` -> path below ``out``, or
            None.
        replace (bool): Also where there is a video already. Defaults to
            False.

    Raises:
        PreparationError: If two different annotation files claim one place.
    """
    copied: Dict[str, Path] = {}
    for path in files:
        name = route(path)
        if name is None:
            continue
        source, target = folder / path, out / name
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
            shutil.copyfile(source, target)
        elif replace or not (target.is_file() and target.stat().st_size):
            if target.is_symlink() or target.exists():
                target.unlink()
            target.symlink_to(source.resolve())


def class_folder_route(clips: Iterable[str]) -> Route:
    """The route of data sets whose clips lie in a folder for every class.

    Args:
        clips (iterable[str]): ``class/name`` of every clip, without suffix.

    Returns:
        callable: Brings them to ``videos/class/name.suffix``. Copies of
        UCF101 and the official lists differ in the case of some letters;
        the lists win.
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
