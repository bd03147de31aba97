"""Runs a function on many clips, in processes that may crash.

Shared by ``check_clips.py`` and ``reencode_clips.py``.
"""

import io
import multiprocessing
import os
import os.path as osp
import re
import signal
import stat
import sys
import time
from multiprocessing.connection import Connection, wait
from typing import Any, Callable, Dict, Iterable, Iterator, List, Tuple

# Seconds within which a process must start, also on a busy machine.
START = 60

Alive = Callable[[], None]
Result = Dict[str, Any]


def read_list(path: str, delimiter: str = ' ') -> List[Tuple[str, str]]:
    """Reads the lines of an annotation list of MMAction2's ``VideoDataset``.

    Args:
        path (str): The list with one ``name label ...`` per line.
        delimiter (str): Separator. Defaults to a space.

    Returns:
        list[tuple[str, str]]: ``(name, labels)``, labels as in the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not UTF-8, is empty, or has a malformed line.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(
            f'LIST: {path} does not exist, or is not a regular file.'
        )
    with open(path, 'rb') as file:
        data = file.read()
    try:
        text = data.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        number = data.count(b'\n', 0, error.start) + 1
        raise ValueError(
            f'LIST: {path}, line {number}: the byte '
            f'0x{data[error.start]:02x} is not UTF-8 text. Save the list as '
            'UTF-8.'
        ) from None
    clips = []
    for number, line in enumerate(io.StringIO(text), 1):
        if not line.strip():
            continue
        name, _, labels = line.strip().partition(delimiter)
        try:
            [int(label) for label in labels.split(delimiter)]
        except ValueError:
            raise ValueError(
                f'LIST: {path}, line {number} is {line.strip()!r}, not '
                f'"path{delimiter}label" with an integer label. For '
                "paths with spaces use another --delimiter, e.g. ','."
            ) from None
        clips.append((name, labels))
    if not clips:
        raise ValueError(f'LIST: {path} is empty: no clip to work with.')
    return clips


def clip_path(prefix: str, name: str) -> str:
    """Returns the path at which ``DecordInit`` looks for a clip."""
    path = osp.join(prefix, name)
    return path if osp.splitext(path)[1] else path + '.mp4'


def check_is_file(path: str) -> None:
    """Checks that a clip is a regular file.

    Opening a named pipe, a socket or a device can block forever or never end.

    Args:
        path (str): The clip.

    Raises:
        ValueError: If it is something else.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kinds = dict(
            folder=stat.S_ISDIR,
            pipe=stat.S_ISFIFO,
            socket=stat.S_ISSOCK,
            device=lambda mode: True,
        )
        kind = next(kind for kind, is_it in kinds.items() if is_it(mode))
        raise ValueError(f'it is not a regular file but a {kind}')


def run_tool(main: Callable[[], None]) -> None:
    """Runs a ``main`` and turns errors of its input into messages.

    Args:
        main (callable): Raises ``OSError`` or ``ValueError`` for wrong input.
    """
    for stream in (sys.stdout, sys.stderr):
        # Names of files may not fit the terminal's encoding.
        stream.reconfigure(errors='backslashreplace')
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f'\n{error}')
    except KeyboardInterrupt:
        sys.exit('\nStopped. The same command continues from here.')


def run_on_clips(
    function: Callable[[Any, Alive], Result],
    jobs: Iterable[Any],
    workers: int,
    timeout: float,
) -> Iterator[Tuple[Any, Result]]:
    """Runs ``function(job, alive)`` on every job, even if some crash.

    The function runs in processes that serve many jobs. A process that crashes
    or is silent for too long is replaced, and its job fails. Its output is
    dropped, because decord prints the bytes of unreadable files.

    Args:
        function (callable): Defined at the top level of a module, as are the
            types of its arguments and results. It calls ``alive()`` regularly
            in a long job.
        jobs (iterable): Arguments of the function.
        workers (int): Number of processes.
        timeout (float): Seconds without a result or ``alive()`` that count
            as a hang.

    Yields:
        tuple: The job and its result, in the order of completion. The result
        is a dict with a ``status``: the function's own, or ``'failed'`` with
        the exception that it raised, ``'crashed'`` with the signal or
        ``'hung'``, in ``detail``.
    """
    jobs = list(jobs)[::-1]
    pool = [_Worker(function, timeout) for _ in range(min(workers, len(jobs)))]
    try:
        idle, busy = list(pool), {}
        while jobs or busy:
            while jobs and idle:
                worker = idle.pop()
                worker.start(jobs.pop())
                busy[worker.connection] = worker
            first = min(worker.deadline for worker in busy.values())
            wait(list(busy), timeout=max(first - time.monotonic(), 0))
            for connection, worker in list(busy.items()):
                result = worker.poll()
                if result is not None:
                    idle.append(busy.pop(connection))
                    yield worker.job, result
    finally:
        for worker in pool:
            worker.stop()


class _Worker:
    """One process, started when there is work and it is not running."""

    def __init__(self, function: Callable, timeout: float) -> None:
        self._function = function
        self._timeout = timeout
        self._process = None

    def start(self, job: Any) -> None:
        """Hands a job to the process."""
        self.job = job
        if self._process is not None and not self._process.is_alive():
            self.stop()  # it ended after its last result
        if self._process is None:
            # Spawned, because decord may hang in a fork of a process that used
            # it.
            context = multiprocessing.get_context('spawn')
            self.connection, theirs = context.Pipe()
            self._process = context.Process(
                target=_serve, args=(self._function, theirs), daemon=True
            )
            self._process.start()
            theirs.close()
            self.deadline = time.monotonic() + START
        else:
            self._still_alive()
        self.connection.send(job)

    def poll(self) -> Any:
        """Returns the result of the job, or None while it runs."""
        try:
            while self.connection.poll():
                result = self.connection.recv()
                if result is not None:
                    return result
                self._still_alive()
        except (EOFError, ConnectionError):
            self._process.join()
            return self._failure('crashed', _cause(self._process.exitcode))
        if time.monotonic() > self.deadline:
            return self._failure('hung', f'silent for {self._timeout:g} s')
        return None

    def stop(self) -> None:
        """Stops the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self.connection.close()
            self._process = None

    def _still_alive(self) -> None:
        self.deadline = time.monotonic() + self._timeout

    def _failure(self, status: str, detail: str) -> Result:
        self.stop()
        return dict(status=status, detail=detail)


def _cause(exitcode: int) -> str:
    if exitcode < 0:
        return signal.Signals(-exitcode).name
    return f'exit status {exitcode}'


def _serve(function: Callable, connection: Connection) -> None:
    """Serves jobs in a worker process until the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    connection.send(None)  # started
    while True:
        try:
            job = connection.recv()
        except EOFError:  # the parent has ended
            return
        try:
            result = function(job, lambda: connection.send(None))
        except Exception as error:
            result = dict(status='failed', detail=first_line(error))
        connection.send(result)


def first_line(error: Exception) -> str:
    """Returns the message of an exception, on one printable line."""
    text = re.sub(r'\[[\d:]+\] \S+: ', '', str(error)).strip()  # decord's log
    text = f'{type(error).__name__}: {text}'.splitlines()[0]
    return ''.join(c if c.isprintable() else '?' for c in text)[:200]
