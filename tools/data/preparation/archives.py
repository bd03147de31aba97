"""Unpacks archives file by file; it can be stopped at any time.

A file is written under a temporary name and renamed when it is complete, so an
incomplete file never looks like a clip. Files that an earlier run unpacked are
not written again.

An archive can be malicious. Only its regular files are read, they are written
below the output folder only, and their unpacked size is limited
(:mod:`.limits`).
"""

import errno
import gzip
import io
import lzma
import shutil
import stat
import struct
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

from dtkd_mmaction.files import atomic_file, read_json, write_json

from .errors import PreparationError
from .files import Route, is_junk, is_video, place_below
from .limits import Budget, CountedReader, TooLargeError
from .rar import RarError, extract_rar, rar_tools, regular_files

# A 7-Zip without RAR support reports a whole archive as damaged.
PERHAPS_WHOLE = ' If it is whole, install another program, such as unrar.'
# HMDB51 is a RAR archive of RAR archives.
RAR_DEPTH = 2

# Raised by damaged and truncated archives.
BROKEN = (
    RarError,
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    NotImplementedError,
)
# A wrong byte is detected at the end of the archive only.
WRONG_CONTENT = (gzip.BadGzipFile, zlib.error)


class EncryptedError(PreparationError):
    """Raised for an archive that needs a password."""


class Archive(NamedTuple):
    """One archive, possibly in several parts.

    Args:
        name (str): Its path below the searched folder.
        parts (tuple[Path]): Its file, or all its files in order. Each of
            several parts may be inside a ZIP file.
        kind (str): ``'rar'``, ``'zip'`` or ``'tar'`` (compressed or not).
    """

    name: str
    parts: Tuple[Path, ...]
    kind: str

    @classmethod
    def of_file(cls, path: Path, name: str) -> 'Archive':
        """Returns an archive of one part; its suffix determines the kind."""
        suffix = path.suffix.lower()
        kind = suffix[1:] if suffix in ('.rar', '.zip') else 'tar'
        return cls(name, (path,), kind)


def unpack(
    archives: Iterable[Archive],
    out: Path,
    route: Route,
    workers: int = 1,
    memory: Optional[str] = None,
    limit: Optional[int] = None,
) -> List[str]:
    """Unpacks archives.

    Args:
        archives (iterable[Archive]): Archives to unpack.
        out (Path): The output folder.
        route (callable): Path in the archive -> path below ``out``, or None.
            The path begins with the archive's own name, without its suffix.
        workers (int): Archives at the same time. Defaults to 1.
        memory (str, optional): Skips archives that an earlier call with the
            same ``memory`` unpacked, if archive and files are unchanged.
            Defaults to None: unpack again.
        limit (int, optional): Largest unpacked size of one archive in bytes.
            Defaults to None: see :class:`.Budget`.

    Returns:
        list[str]: Problems of the archives that cannot be used.

    Raises:
        PreparationError: If no program to read RAR archives is installed, or
            the disk is full.
    """
    folder = out / '.unpacking'
    shutil.rmtree(folder, ignore_errors=True)  # of a stopped run
    todo = [a for a in archives if memory is None or not _done(a, out, memory)]
    for archive in todo:
        if archive.kind == 'rar':
            rar_tools(archive.name)  # before the work starts
    if not todo:
        return []

    def work(archive: Archive) -> Optional[str]:
        budget = Budget(archive.name, archive.parts, limit)
        work_folder = folder / uuid.uuid4().hex
        job = _Job(archive, out, work_folder, route, budget)
        try:
            job.unpack(progress)
        except (TooLargeError, EncryptedError) as error:
            job.remove_files()
            return str(error)
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
        job.journal.unlink()
        return None

    try:
        with _progress() as progress, ThreadPoolExecutor(workers) as pool:
            # A thread would delay Ctrl-C until its archive is unpacked.
            run = map if workers == 1 else pool.map
            results = list(run(work, todo))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return [text for text in results if text]


class _Job:
    """Unpacks one archive.

    Attributes:
        files (set[str]): The files of the archive that are in place, below
            the output folder.
        journal (Path): List of the files that this run, or one that was
            stopped, wrote.
    """

    def __init__(
        self,
        archive: Archive,
        out: Path,
        folder: Path,
        route: Route,
        budget: Budget,
    ) -> None:
        self.archive = archive
        self.out = out
        self.folder = folder
        self.route = route
        self.budget = budget
        self.files: Set[str] = set()
        self.journal = _marker(archive, out).with_suffix('.journal')
        self.journal.parent.mkdir(parents=True, exist_ok=True)
        self.journal.touch()
        folder.mkdir(parents=True)

    def unpack(self, progress: Progress) -> None:
        archive = self.archive
        task = progress.add_task(
            f'Unpacking {archive.name}', total=self.budget.size
        )
        stem = PurePosixPath(archive.name).name.split('.')[0]
        if archive.kind == 'rar':
            self._unpack_rar(archive.parts[0], PurePosixPath(stem))
        elif archive.kind == 'zip':
            self._unpack_zip(archive.parts[0], PurePosixPath(stem))
        else:
            with _open_parts(archive.parts) as file:
                counted = progress.wrap_file(
                    file, self.budget.size, task_id=task
                )
                self._unpack_tar(counted, PurePosixPath(stem))
        progress.remove_task(task)

    def remove_files(self) -> None:
        """Removes the written files, because any of them may be damaged.

        Files that existed before are kept.
        """
        for name in set(self.journal.read_text('utf-8').splitlines()):
            (self.out / name).unlink(missing_ok=True)
        self.journal.unlink()

    def _unpack_tar(self, file: BinaryIO, prefix: PurePosixPath) -> None:
        file = io.BufferedReader(file)
        if file.peek(2)[:2] == b'\x1f\x8b':
            file = gzip.GzipFile(fileobj=file)
        file = io.BufferedReader(CountedReader(file, self.budget), 1 << 20)
        with tarfile.open(fileobj=file, mode='r|') as tar:
            for member in tar:
                path = prefix / member.name
                name = self._target(path) if member.isfile() else None
                if name is not None:
                    if member.issparse():  # holes are not in the stream
                        self.budget.spend(member.size)
                    self._place(
                        name, path, member.size, tar.extractfile(member)
                    )
        # Reads to the end, which contains the checksum of gzip.
        while file.read(1 << 20):
            pass

    def _unpack_zip(self, path: Path, prefix: PurePosixPath) -> None:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                inside = prefix / member.filename
                name = self._target(inside)
                if member.is_dir() or is_link(member) or name is None:
                    continue
                check_password(member, self.archive.name)
                self.budget.spend(member.file_size)
                with archive.open(member) as source:
                    self._place(name, inside, member.file_size, source)

    def _unpack_rar(
        self, path: Path, prefix: PurePosixPath, depth: int = RAR_DEPTH
    ) -> None:
        """Unpacks with an external program, including RAR archives inside."""
        folder = self.folder / uuid.uuid4().hex
        extract_rar(path, folder, self.budget)
        for file in regular_files(folder):
            inside = prefix / file.relative_to(folder).as_posix()
            if is_junk(inside):
                continue
            if file.suffix.lower() == '.rar' and depth > 1:
                self._unpack_rar(file, PurePosixPath(file.stem), depth - 1)
                continue
            name = self._target(inside)
            if name is not None:
                with open(file, 'rb') as source:
                    self._place(name, inside, file.stat().st_size, source)
        shutil.rmtree(folder)

    def _target(self, path: PurePosixPath) -> Optional[str]:
        """Returns the path of a file below the output folder, or None."""
        return None if is_junk(path) else self.route(path)

    def _place(
        self, name: str, path: PurePosixPath, size: int, source: BinaryIO
    ) -> None:
        """Writes one file to its path, unless it exists."""
        target = place_below(self.out, name)
        # Annotations are small, and may have changed without changing size.
        is_there = (
            is_video(path)
            and target.is_file()
            and target.stat().st_size == size
        )
        if not is_there:
            self._write(name, target, size, source)
        self.files.add(name)

    def _write(
        self, name: str, target: Path, size: int, source: BinaryIO
    ) -> None:
        try:
            with atomic_file(target, size) as file:
                shutil.copyfileobj(source, file, 1 << 20)
                if file.tell() != size:
                    raise EOFError(
                        f'{target.name} has {file.tell()} bytes of {size}'
                    )
                with open(self.journal, 'a', encoding='utf-8') as journal:
                    journal.write(f'{name}\n')
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise PreparationError(
                f'{error}: the disk of --out is full. Make room, or name '
                'another --out folder; the same command continues from here.'
            ) from error


def is_link(member: zipfile.ZipInfo) -> bool:
    """Returns whether a member of a ZIP file is a symbolic link."""
    return stat.S_ISLNK(member.external_attr >> 16)


def check_password(member: zipfile.ZipInfo, name: str) -> None:
    """Checks that a member of a ZIP file needs no password.

    Args:
        member (ZipInfo): The member.
        name (str): The archive, for messages.

    Raises:
        EncryptedError: If it does.
    """
    if member.flag_bits & 0x1:
        raise EncryptedError(
            f'{name} is encrypted ({member.filename} needs a password). '
            'Unpack it with its password elsewhere, and put the folder in '
            'its place.'
        )


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
    """Opens all parts as one stream."""
    return io.BufferedReader(
        _JoinedFiles([lambda part=part: _open_part(part) for part in parts]),
        1 << 20,
    )


def _open_part(part: Path) -> BinaryIO:
    if is_wrapped(part):
        archive = zipfile.ZipFile(part)
        return archive.open(wrapped_part(archive, part.name))
    return open(part, 'rb')


def is_wrapped(part: Path) -> bool:
    """Returns whether a part is inside a ZIP file, not only named so."""
    if part.suffix.lower() != '.zip':
        return False
    with open(part, 'rb') as file:
        return file.read(4) == b'PK\x03\x04'


def wrapped_part(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """Returns the part inside a ZIP file: its largest file.

    Args:
        archive (ZipFile): The ZIP file.
        name (str): Its name, for messages.

    Raises:
        BadZipFile: If there is no file in it.
        EncryptedError: If it needs a password.
    """
    members = archive.infolist()
    if not members:
        raise zipfile.BadZipFile('there is no file in it')
    part = max(members, key=lambda member: member.file_size)
    check_password(part, name)
    return part


def _progress() -> Progress:
    return Progress(
        # Names of files are not markup.
        TextColumn('{task.description}', markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        transient=True,
    )


def _stamp(archive: Archive, memory: str) -> dict:
    """Returns sizes and times that show whether an archive has changed."""
    found = [part.stat() for part in archive.parts]
    return dict(
        memory=memory,
        parts=[[part.st_size, part.st_mtime_ns] for part in found],
    )


def _marker(archive: Archive, out: Path) -> Path:
    return out / '.prepared' / (archive.name.replace('/', '__') + '.json')


def _remember(
    archive: Archive, out: Path, memory: str, files: Set[str]
) -> None:
    marker = _marker(archive, out)
    stamp = _stamp(archive, memory)
    write_json(marker, dict(stamp, files=sorted(files)), indent=None)


def _done(archive: Archive, out: Path, memory: str) -> bool:
    """Returns whether an earlier run unpacked it and nothing has changed."""
    marker = _marker(archive, out)
    try:
        recorded = read_json(marker, keys=('files',))
        files = recorded.pop('files')
        return recorded == _stamp(archive, memory) and all(
            (out / name).is_file() for name in files
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False  # there is none, or another program wrote it
