"""Limits the disk space of a folder."""

import os
import resource
import subprocess
from contextlib import contextmanager
from typing import Callable, Iterator, Tuple


@contextmanager
def small_disk(
    folder: str, size: int
) -> Iterator[Tuple[Callable[[], None], Callable[[], None]]]:
    """Limits the space of a folder with a ``tmpfs``, if it can be mounted.

    Otherwise single files are limited (``RLIMIT_FSIZE``), which programs
    notice in the same way.

    Args:
        folder (str): It must exist.
        size (int): In bytes.

    Yields:
        tuple[callable, callable]: A function to call in the process that works
            there, and one that frees space.
    """
    mounted = (
        os.getuid() == 0
        and not subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', folder],
            stderr=subprocess.DEVNULL,
            check=False,
        ).returncode
    )
    limited = [True]

    def limit_process() -> None:
        if limited[0] and not mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    def make_room() -> None:
        limited[0] = False
        if mounted:
            subprocess.run(
                ['mount', '-o', 'remount,size=1g', folder], check=True
            )

    try:
        yield limit_process, make_room
    finally:
        if mounted:
            subprocess.run(['umount', folder], check=True)
