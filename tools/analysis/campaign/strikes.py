"""Runs functions in forked processes and kills them at chosen moments."""

import gc
import os
import os.path as osp
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Callable, List, Optional

import torch

# A process that takes longer hangs.
LIMIT_SECONDS = 300
CHANGES = ('os.rename', 'os.remove', 'os.truncate', 'os.mkdir', 'os.rmdir')
# Logs of MMEngine; losing their last lines is not a fault.
LOGS = ('.log', 'vis_data', '.log.json')


@dataclass
class Strike:
    """Time at which a process is killed with SIGKILL.

    Args:
        event (int, optional): Number of the file event before which it is
            killed, from 1.
        seconds (float, optional): Time after which it is killed.
        rank (int, optional): The process; None kills all of them.
    """

    event: Optional[int] = None
    seconds: Optional[float] = None
    rank: Optional[int] = 0

    def __str__(self) -> str:
        who = 'all' if self.rank is None else f'process {self.rank}'
        if self.event is not None:
            return f'{who} before file event {self.event}'
        return f'{who} after {self.seconds:.2f} s'


@dataclass
class Outcome:
    """Result of processes.

    Args:
        codes (list[int]): Exit codes; -9 for killed ones.
        hung (bool): Whether some had to be killed because they did not end.
        log (str): Their output.
    """

    codes: List[int]
    hung: bool
    log: str


class FileEvents:
    """Counts the file events of a process in a folder.

    An event is an opening for writing, a renaming, a removal, a new folder
    or a flush to the disk.

    Args:
        folder (str): The folder; other files are ignored.
        fatal (int, optional): The process kills itself before this event.
    """

    def __init__(self, folder: str, fatal: Optional[int] = None) -> None:
        self.folder = osp.realpath(folder) + os.sep
        self.fatal = fatal
        self.count = 0

    def watch(self) -> None:
        """Starts counting; it cannot be stopped in this process."""
        sys.addaudithook(self._audit)
        flush = os.fsync

        def fsync(descriptor: int) -> None:
            self._add(os.readlink(f'/proc/self/fd/{int(descriptor)}'))
            flush(descriptor)

        os.fsync = fsync

    def _audit(self, event: str, arguments: tuple) -> None:
        if event == 'open':
            path, mode, flags = arguments
            written = set(mode or '') & set('wax+') or (
                isinstance(flags, int)
                and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            )
            if written:
                self._add(path)
        elif event in CHANGES:
            self._add(arguments[0])

    def _add(self, path: Any) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        path = osp.abspath(os.fsdecode(path))
        if not path.startswith(self.folder) or any(
            part in path for part in LOGS
        ):
            return
        self.count += 1
        if self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


def run(
    function: Callable[[], Any],
    log: str,
    folder: str,
    ranks: int = 1,
    strike: Optional[Strike] = None,
) -> Outcome:
    """Runs a function in forked processes of one group.

    Args:
        function (callable): Called in each; an exception is exit code 1.
        log (str): Path for output; a rank's number is added.
        folder (str): Folder whose file events are counted.
        ranks (int): Number of processes. Defaults to 1.
        strike (Strike, optional): Which process to kill, and when.
    """
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    context = get_context('fork')
    paths = [f'{log}.{rank}' for rank in range(ranks)]
    processes = [
        context.Process(
            target=_child,
            args=(function, paths[rank], folder, rank, ranks, port, strike),
        )
        for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    if strike is not None and strike.seconds is not None:
        time.sleep(strike.seconds)
        for rank, process in enumerate(processes):
            if strike.rank in (None, rank):
                process.kill()
    end = time.monotonic() + LIMIT_SECONDS
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
    late = [process for process in processes if process.is_alive()]
    for process in late:
        process.kill()
        process.join()
    return Outcome(
        [process.exitcode for process in processes],
        bool(late),
        ''.join(read_if_there(path) for path in paths),
    )


def read_if_there(path: str) -> str:
    """Returns the text of a file, or nothing."""
    if not osp.isfile(path):
        return ''
    with open(path, errors='replace') as file:
        return file.read()


def _child(
    function: Callable[[], Any],
    path: str,
    folder: str,
    rank: int,
    ranks: int,
    port: int,
    strike: Optional[Strike],
) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(ranks),
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(port),
    )
    output = open(path, 'w', 1)  # noqa: SIM115  (until the process ends)
    sys.stdout = sys.stderr = output
    torch.set_num_threads(1)
    gc.freeze()  # data sets collect garbage, which should be quick
    mine = strike is not None and strike.rank in (None, rank)
    events = FileEvents(folder, strike.event if mine else None)
    events.watch()
    code = 1
    try:
        function()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
        if isinstance(end.code, str):
            print(end.code)
    except BaseException:
        traceback.print_exc()
    print(f'file events: {events.count}')
    output.flush()
    # A forked process must not run the parent's exit handlers.
    os._exit(code)


def file_events(log: str) -> int:
    """Reads how many file events the first process of a run had."""
    return int(log.partition('file events: ')[2].split()[0])
