"""Ends a training whose launcher was killed.

``torchrun`` and ``mim`` run the training as a child process. If they are
killed, the child would continue alone, and nothing could stop it.
"""

import os
import os.path as osp
import select
import signal
import threading
from pathlib import Path
from typing import List

# The first words of their command lines: `python -m torch.distributed.run`.
LAUNCHERS = {
    'mim',
    'torchrun',
    'torch.distributed.run',
    'torch.distributed.launch',
}
FIRST_WORDS = 4
_watched: List[int] = []


def end_with_launcher() -> None:
    """Sends SIGTERM to this process when a launcher above it ends.

    Does nothing without a launcher, or on systems without ``pidfd_open``
    (Linux has it since 5.3).
    """
    if _watched or not hasattr(os, 'pidfd_open'):
        return
    try:
        _watched.extend(map(os.pidfd_open, launchers_above()))
    except OSError:  # it has just ended, or the call is forbidden
        return
    if _watched:
        threading.Thread(
            target=_wait_and_terminate, args=(_watched,), daemon=True
        ).start()


def _wait_and_terminate(descriptors: List[int]) -> None:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    poll.poll()
    os.kill(os.getpid(), signal.SIGTERM)


def launchers_above() -> List[int]:
    """Returns the process ids of the launchers above this process."""
    found, pid = [], os.getppid()
    while is_launcher(pid):
        found.append(pid)
        pid = parent_of(pid)
    return found


def is_launcher(pid: int) -> bool:
    """Returns whether the command line is one of :data:`LAUNCHERS`."""
    try:
        line = Path(f'/proc/{pid}/cmdline').read_bytes()
    except OSError:
        return False
    words = line.decode(errors='replace').split('\0')[:FIRST_WORDS]
    return any(osp.basename(word) in LAUNCHERS for word in words)


def parent_of(pid: int) -> int:
    """Returns the process id of the parent of a process."""
    text = Path(f'/proc/{pid}/stat').read_text()
    # "pid (name) state parent ...", and a name may contain any character.
    return int(text.rpartition(')')[2].split()[1])
