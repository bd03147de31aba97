"""Locks that the kernel releases when their process ends."""

import json
import os
import os.path as osp
import socket
import time
from typing import Optional, Union

try:
    import fcntl
except ImportError:  # Windows: nothing is locked
    fcntl = None  # type: ignore[assignment]


def lock_file(descriptor: int) -> None:
    """Locks an open file for this process, or raises at once.

    A forked process does not inherit the lock. Closing any descriptor of
    the file in this process releases it.

    Args:
        descriptor (int): A file that is open to write.

    Raises:
        BlockingIOError: If another process holds it.
        OSError: If the file system has no locks.
    """
    if fcntl is None:
        return
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except PermissionError as error:  # POSIX allows either
        raise BlockingIOError(*error.args) from None


class FolderLock:
    """Lock that gives a folder to one process at a time.

    The kernel releases the lock when the process ends, however it ends. The
    file remains and contains the host, the process and the time of its last
    holder. A process that is forked from the holder, such as a worker of a
    data loader, does not hold it.

    Args:
        folder (str or Path): The folder; it is created if it is missing.
        name (str): Name of the lock file in it. Defaults to ``'run.lock'``.
    """

    def __init__(
        self, folder: Union[str, os.PathLike], name: str = 'run.lock'
    ) -> None:
        self.path = osp.join(os.fspath(folder), name)
        self._descriptor: Optional[int] = None

    def take(self, seconds: float = 0.0) -> bool:
        """Takes the lock.

        Args:
            seconds (float): How long to wait for it. Defaults to 0.

        Returns:
            bool: False if another process holds it.
        """
        os.makedirs(osp.dirname(self.path), exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        end = time.monotonic() + seconds
        while True:
            try:
                lock_file(descriptor)
            except BlockingIOError:
                if time.monotonic() < end:
                    time.sleep(0.1)
                    continue
                os.close(descriptor)
                return False
            except OSError:  # a file system without locks: nothing is locked
                pass
            break
        holder = dict(
            host=socket.gethostname(),
            pid=os.getpid(),
            since=time.strftime('%Y-%m-%d %H:%M:%S %z'),
        )
        os.ftruncate(descriptor, 0)
        os.write(descriptor, (json.dumps(holder) + '\n').encode())
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Releases the lock, if this object holds it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> str:
        """Describes the process that holds the lock, for messages."""
        try:
            if self._descriptor is None:
                with open(self.path, 'rb') as file:
                    content = file.read(1000)
            else:  # closing the file anew would release the lock
                content = os.pread(self._descriptor, 1000, 0)
            told = json.loads(content)
            return (
                f'process {told["pid"]} on {told["host"]}, since '
                f'{told["since"]}'
            )
        except (OSError, ValueError, KeyError, TypeError):
            return 'another process'
