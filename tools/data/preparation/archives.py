"""Unpacks archives file by file, and can be stopped at any time.

A file is written under another name and renamed when it is complete, so that
a half-written clip is never taken for a clip. What an earlier run unpacked is
not written again.
"""

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import uuid
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import (
    BinaryIO,
    Callable,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Set,
    Tuple,
)

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from .errors import PreparationError
from .files import Route, is_junk, is_video

# Tried in this order: not every 7-Zip can read RAR.
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


# A 7-Zip without RAR support does not tell a whole archive from a damaged one.
PERHAPS_WHOLE = ' If it is whole, install another program, such as unrar.'


class RarError(Exception):
    """No program could read a RAR archive."""


# What damaged and cut-off archives raise.
BROKEN = (
    RarError,
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
)
# A wrong byte is noticed at the end of the archive only.
WRONG_CONTENT = (gzip.BadGzipFile, zlib.error)


class Archive(NamedTuple):
    """One archive, perhaps in several parts.

    Args:
        name (str): Its path as the user sees it, below the folder searched.
        parts (tuple[Path]): Its file, or all its files in order. A part of
            several may be wrapped in a ZIP file of its own.
        kind (str): ``'rar'``, ``'zip'`` or ``'tar'`` (compressed or not).
    """

    name: str
    parts: Tuple[Path, ...]
    kind: str

    @classmethod
    def of_file(cls, path: Path, name: str) -> 'Archive':
        """An archive of one part, of the kind that its name tells."""
        suffix = path.suffix.lower()
        kind = suffix[1:] if suffix in ('.rar', '.zip') else 'tar'
        return cls(name, (path,), kind)


def unpack(
    archives: Iterable[Archive],
    out: Path,
    route: Route,
    workers: int = 1,
    memory: Optional[str] = None,
) -> List[str]:
    """Unpack archives.

    Args:
        archives (iterable[Archive]): What to unpack.
        out (Path): The output folder.
        route (callable): Path in the archive -> path below ``out``, or None.
            The path begins with the archive's own name, without its ending.
        workers (int): Archives at the same time. Defaults to 1.
        memory (str, optional): Skip what an earlier call with the same
            ``memory`` unpacked, as long as archive and files are there
            unchanged. Defaults to None: unpack again.

    Returns:
        list[str]: What is wrong with the archives that are damaged.

    Raises:
        PreparationError: If no program to read RAR archives is installed.
    """
    folder = out / '.unpacking'
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
    todo = [a for a in archives if memory is None or not _done(a, out, memory)]
    for archive in todo:
        if archive.kind == 'rar':
            rar_tools(archive.name)  # before the work starts
    if not todo:
        return []
    with _progress() as progress:

        def work(archive: Archive) -> Optional[str]:
            job = _Job(out, folder / uuid.uuid4().hex, route, progress)
            try:
                job.unpack(archive)
            except BROKEN as error:
                if isinstance(error, WRONG_CONTENT):
                    job.remove_files()
                return (
                    f'{archive.name} is damaged or was not downloaded '
                    f'completely ({type(error).__name__}: {error}). Fetch it '
                    'again.' + PERHAPS_WHOLE * isinstance(error, RarError)
                )
            if memory is not None:
                _remember(archive, out, memory, job.files)
            return None

        with ThreadPoolExecutor(workers) as pool:
            # A thread would hold up Ctrl-C until its archive is unpacked.
            run = map if workers == 1 else pool.map
            results = list(run(work, todo))
    shutil.rmtree(folder, ignore_errors=True)
    return [text for text in results if text]


class _Job:
    """Unpacks one archive; ``files`` are those of it that are in place."""

    def __init__(
        self, out: Path, folder: Path, route: Route, progress: Progress
    ) -> None:
        self.out = out
        self.folder = folder
        self.route = route
        self.progress = progress
        self.files: Set[str] = set()
        folder.mkdir(parents=True)

    def unpack(self, archive: Archive) -> None:
        size = sum(part.stat().st_size for part in archive.parts)
        task = self.progress.add_task(f'Unpacking {archive.name}', total=size)
        stem = PurePosixPath(archive.name).name.split('.')[0]
        if archive.kind == 'rar':
            self._unpack_rar(archive.parts[0], PurePosixPath(stem))
        elif archive.kind == 'zip':
            self._unpack_zip(archive.parts[0], PurePosixPath(stem))
        else:
            with _open_parts(archive.parts) as file:
                counted = self.progress.wrap_file(file, size, task_id=task)
                self._unpack_tar(counted, PurePosixPath(stem))
        self.progress.remove_task(task)

    def remove_files(self) -> None:
        """Remove them, since nobody knows which of them is damaged."""
        for name in self.files:
            (self.out / name).unlink()

    def _unpack_tar(self, file: BinaryIO, prefix: PurePosixPath) -> None:
        file = io.BufferedReader(file)
        if file.peek(2)[:2] == b'\x1f\x8b':
            file = gzip.GzipFile(fileobj=file)
        with tarfile.open(fileobj=file, mode='r|') as tar:
            for member in tar:
                if member.isfile():
                    source = tar.extractfile(member)
                    self._place(prefix / member.name, member.size, source)
        # Read to the end: gzip's checksum stands there.
        while file.read(1 << 20):
            pass

    def _unpack_zip(self, path: Path, prefix: PurePosixPath) -> None:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    with archive.open(member) as source:
                        name = prefix / member.filename
                        self._place(name, member.file_size, source)

    def _unpack_rar(self, path: Path, prefix: PurePosixPath) -> None:
        """Unpack with an external program; RAR archives inside as well."""
        folder = self.folder / uuid.uuid4().hex
        extract_rar(path, folder)
        for file in sorted(folder.rglob('*')):
            name = prefix / file.relative_to(folder).as_posix()
            if not file.is_file() or is_junk(name):
                continue
            if file.suffix.lower() == '.rar':
                self._unpack_rar(file, PurePosixPath(file.stem))
            else:
                with open(file, 'rb') as source:
                    self._place(name, file.stat().st_size, source)
        shutil.rmtree(folder)

    def _place(self, path: PurePosixPath, size: int, source: BinaryIO) -> None:
        """Write one file where it belongs, unless it is there."""
        name = None if is_junk(path) else self.route(path)
        if name is None:
            return
        target = self.out / name
        # Annotations are small, and may have changed and kept their size.
        is_there = (
            is_video(path)
            and target.is_file()
            and target.stat().st_size == size
        )
        if not is_there:
            self._write(target, size, source)
        self.files.add(name)

    def _write(self, target: Path, size: int, source: BinaryIO) -> None:
        temporary = self.folder / 'file'
        with open(temporary, 'wb') as file:
            shutil.copyfileobj(source, file, 1 << 20)
        found = temporary.stat().st_size
        if found != size:
            raise EOFError(f'{target.name} has {found} bytes of {size}')
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, target)


def rar_tools(archive: str) -> List[str]:
    """The installed programs that may read RAR archives.

    Raises:
        PreparationError: If there is none.
    """
    found = [name for name in RAR_TOOLS if shutil.which(name)]
    if not found:
        raise PreparationError(
            NO_RAR_TOOL.format(archive=archive, tools=', '.join(RAR_TOOLS))
        )
    return found


def extract_rar(path: Path, folder: Path) -> None:
    """Extract a RAR archive into a new folder.

    Raises:
        RarError: If no program could, with what the last lines of each say.
    """
    failures = []
    for name in rar_tools(path.name):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        command = [
            part.format(archive=path.resolve(), folder=folder.resolve())
            for part in RAR_TOOLS[name]
        ]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode == 0:
            return
        lines = done.stdout.decode(errors='replace').split('\n')
        said = ' '.join(line.strip() for line in lines if line.strip())
        failures.append(f'{name} exits with {done.returncode}: {said[-300:]}')
    raise RarError('; '.join(failures))


class _JoinedFiles(io.RawIOBase):
    """Several streams, one after another."""

    def __init__(self, openers: List[Callable[[], BinaryIO]]) -> None:
        self._openers = openers
        self._current: Optional[BinaryIO] = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while self._current or self._openers:
            if self._current is None:
                self._current = self._openers.pop(0)()
            data = self._current.read(len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
            self._current.close()
            self._current = None
        return 0


def _open_parts(parts: Tuple[Path, ...]) -> BinaryIO:
    """The bytes of all parts."""
    return io.BufferedReader(
        _JoinedFiles([lambda part=part: _open_part(part) for part in parts]),
        1 << 20,
    )


def _open_part(part: Path) -> BinaryIO:
    if is_wrapped(part):
        archive = zipfile.ZipFile(part)
        return archive.open(wrapped_part(archive))
    return open(part, 'rb')


def is_wrapped(part: Path) -> bool:
    """Whether a part is in a ZIP file; some are only named as if."""
    if part.suffix.lower() != '.zip':
        return False
    with open(part, 'rb') as file:
        return file.read(4) == b'PK\x03\x04'


def wrapped_part(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The part in a ZIP file that wraps one: its largest file."""
    return max(archive.infolist(), key=lambda member: member.file_size)


def _progress() -> Progress:
    return Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        transient=True,
    )


def _stamp(archive: Archive, memory: str) -> dict:
    """What tells an archive from what it was earlier."""
    found = [part.stat() for part in archive.parts]
    return dict(
        memory=memory,
        parts=[[stat.st_size, stat.st_mtime_ns] for stat in found],
    )


def _marker(archive: Archive, out: Path) -> Path:
    return out / '.prepared' / (archive.name.replace('/', '__') + '.json')


def _remember(
    archive: Archive, out: Path, memory: str, files: Set[str]
) -> None:
    marker = _marker(archive, out)
    marker.parent.mkdir(parents=True, exist_ok=True)
    temporary = marker.with_suffix('.part')
    stamp = _stamp(archive, memory)
    temporary.write_text(json.dumps(dict(stamp, files=sorted(files))))
    os.replace(temporary, marker)


def _done(archive: Archive, out: Path, memory: str) -> bool:
    """Whether an earlier run unpacked it and nothing has changed since."""
    marker = _marker(archive, out)
    if not marker.is_file():
        return False
    told = json.loads(marker.read_text())
    files = told.pop('files')
    return told == _stamp(archive, memory) and all(
        (out / name).is_file() for name in files
    )
