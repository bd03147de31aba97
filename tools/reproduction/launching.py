"""Trains runs, several at a time and teachers before students."""

import ctypes
import os
import os.path as osp
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Callable, Dict, List, NamedTuple, Optional, Set

from dtkd_mmaction.engine.resumable_train_loop import INTERRUPTED_EXIT_CODE
from dtkd_mmaction.file_lock import FolderLock
from dtkd_mmaction.files import write_text

from .plan import Run
from .records import (
    ConflictError,
    State,
    note_exit,
    note_launch,
    note_result,
    state_of,
)
from .stages import TRAIN, stage_command

POLL_SECONDS = 0.2
LOCK = 'lock'  # of a run's folder


class Launcher(NamedTuple):
    """Options for starting trainings.

    Attributes:
        tools (str): Folder of ``train.py`` and its shell scripts.
        gpus (int): Number of processes per training.
        slurm (str, optional): Partition; '' is the default partition.
        jobs (int): Number of trainings at the same time.
    """

    tools: str
    gpus: int = 1
    slurm: Optional[str] = None
    jobs: int = 1

    def check(self) -> None:
        """Raises an error if the trainings need more GPUs than there are.

        Raises:
            SystemExit: If there are too few. Without any GPU, trainings run on
                the CPU.
        """
        found = len(visible_gpus())
        if self.slurm is None and 0 < found < self.jobs * self.gpus:
            raise SystemExit(
                f'--jobs {self.jobs} times --gpus {self.gpus}: this machine '
                f'shows {found} GPUs.'
            )

    def command(self, run: Run, config: str, resume: bool) -> List[str]:
        """Returns the command line of a training.

        Args:
            run (Run): The run.
            config (str): File of its resolved config.
            resume (bool): Whether there is a checkpoint to resume from. It
                must be False otherwise, because MMAction2 ignores
                ``load_from`` with ``--resume``.
        """
        if run.kind != TRAIN:
            return stage_command(run, self.tools, config)
        options = ['--resume'] if resume else []
        if self.slurm is not None:
            script = osp.join(self.tools, 'slurm_train.sh')
            job = run.name.replace(' ', '_').replace('/', '_')
            return ['bash', script, self.slurm, job, config, *options]
        if self.gpus > 1:
            script = osp.join(self.tools, 'dist_train.sh')
            return ['bash', script, config, str(self.gpus), *options]
        script = osp.join(self.tools, 'train.py')
        return [sys.executable, script, config, *options]

    def environment(self, slot: int) -> Dict[str, str]:
        """Returns the environment variables of the training in a slot."""
        environment = dict(os.environ, PYTHON=sys.executable)
        if self.slurm is not None:
            environment['GPUS'] = str(self.gpus)
            environment['GPUS_PER_NODE'] = str(min(self.gpus, 8))
            return environment
        if self.gpus > 1:
            environment['PORT'] = str(free_port())
        if self.jobs > 1:
            threads = (os.cpu_count() or 1) // self.jobs
            environment['OMP_NUM_THREADS'] = str(max(threads, 1))
            devices = visible_gpus()
            if devices:
                first = slot * self.gpus
                environment['CUDA_VISIBLE_DEVICES'] = ','.join(
                    devices[first : first + self.gpus]
                )
        return environment


@dataclass
class Training:
    """A running training."""

    run: Run
    process: subprocess.Popen
    begun: float
    lock: FolderLock
    slot: int


def train_all(
    runs: List[Run], launcher: Launcher, print_line: Callable[[str], None]
) -> Dict[str, str]:
    """Trains runs until each is done or cannot be trained.

    On SIGTERM, on Ctrl-C and when this process is killed, the trainings write
    a checkpoint and stop. If another process trains a run, this function waits
    for it.

    Args:
        runs (list[Run]): Teachers before students.
        launcher (Launcher): Starts them.
        print_line (callable): Prints a line.

    Returns:
        dict[str, str]: Run -> ``'done'``, ``'failed'``, ``'interrupted'``
            (also if stopped before its start) or ``'not begun'``, because a
            teacher is missing.
    """
    names = {run.name for run in runs}
    outcome: Dict[str, str] = {}
    waiting = list(runs)
    running: List[Training] = []
    told: List[int] = []
    elsewhere: Set[str] = set()

    def stop(*_) -> None:
        told.append(1)
        for training in running:
            # Only its leader, which stops the workers after the checkpoint.
            training.process.send_signal(signal.SIGTERM)

    def begin_if_possible(run: Run) -> None:
        teachers = {t.name for t in run.teachers.values()} & names
        if any(outcome.get(name, 'done') != 'done' for name in teachers):
            waiting.remove(run)
            outcome[run.name] = 'not begun'
            print_line(f'{run.name}: not begun, because a teacher is missing')
        elif len(running) < launcher.jobs and teachers <= outcome.keys():
            taken = {training.slot for training in running}
            slot = min(set(range(launcher.jobs)) - taken)
            training = begin(run, launcher, slot, outcome, print_line)
            if training is not None:
                running.append(training)
                if told:  # while it was started
                    training.process.send_signal(signal.SIGTERM)
            if training is not None or run.name in outcome:
                waiting.remove(run)
            elif run.name not in elsewhere:
                elsewhere.add(run.name)
                print_line(f'{run.name}: another process trains it; waiting')

    signals = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, stop) for number in signals}
    try:
        while running or (waiting and not told):
            for training in list(running):
                if training.process.poll() is not None:
                    running.remove(training)
                    outcome[training.run.name] = end(
                        training, bool(told), print_line
                    )
            for run in list(waiting):
                if not told:
                    begin_if_possible(run)
            time.sleep(POLL_SECONDS)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for training in running:
            training.process.send_signal(signal.SIGTERM)
    outcome.update({run.name: 'interrupted' for run in waiting})
    return outcome


def begin(
    run: Run,
    launcher: Launcher,
    slot: int,
    outcome: Dict[str, str],
    print_line: Callable[[str], None],
) -> Optional[Training]:
    """Starts a run, unless another process trains it or it is done."""
    lock = take_lock(run)
    if lock is None:
        return None
    try:
        state = state_of(run)
    except ConflictError as error:
        outcome[run.name] = 'failed'
        print_line(f'{run.name}: {error}')
        lock.release()
        return None
    if state is State.DONE:
        outcome[run.name] = 'done'
        lock.release()
        return None
    config = osp.join(run.work_dir, 'config.py')
    write_text(config, run.config.pretty_text)
    command = launcher.command(run, config, state is State.RESUMABLE)
    note_launch(run, command)
    log = osp.join(run.work_dir, 'train.log')
    print_line(
        f'{run.name}: {"resumes" if "--resume" in command else "starts"}'
    )
    with open(log, 'ab') as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=launcher.environment(slot),
            start_new_session=True,  # Ctrl-C is forwarded instead
            preexec_fn=stop_with_parent,
        )
    return Training(run, process, time.time(), lock, slot)


def end(
    training: Training, told_to_stop: bool, print_line: Callable[[str], None]
) -> str:
    """Records how a training ended, and releases its lock."""
    run, code = training.run, training.process.returncode
    seconds = time.time() - training.begun
    note_exit(run, code, seconds)
    log = osp.join(run.work_dir, 'train.log')
    outcome = 'done'
    if code == 0:
        try:
            note_result(run)
            print_line(f'{run.name}: done in {seconds / 3600:.2f} h')
        except ValueError as error:
            outcome = 'failed'
            print_line(f'{run.name}: failed. {error} See {log}')
    elif code == INTERRUPTED_EXIT_CODE or told_to_stop:
        outcome = 'interrupted'
        print_line(
            f'{run.name}: interrupted; run the same command to continue'
        )
    else:
        outcome = 'failed'
        print_line(f'{run.name}: failed with exit code {code}, see {log}')
    training.lock.release()
    return outcome


def take_lock(run: Run) -> Optional[FolderLock]:
    """Locks a run; returns None if another process has it.

    Its training has a lock of its own (``AtomicCheckpointHook``), which may
    outlive the process that launched it.
    """
    lock, training = FolderLock(run.work_dir, LOCK), FolderLock(run.work_dir)
    if not lock.take():
        return None
    if not training.take():
        lock.release()
        return None
    training.release()
    return lock


def move_aside(run: Run) -> str:
    """Renames a run's folder to a free name and returns the name.

    Raises:
        SystemExit: If another process trains in it.
    """
    lock = take_lock(run)
    if lock is None:
        raise SystemExit(
            f'{run.name}: another process trains in {run.work_dir}, which '
            '--retrain would move aside. Stop it first.'
        )
    number = 1
    while osp.exists(f'{run.work_dir}.replaced{number}'):
        number += 1
    aside = f'{run.work_dir}.replaced{number}'
    os.rename(run.work_dir, aside)
    lock.release()
    return aside


def stop_with_parent() -> None:
    """Lets Linux send SIGTERM to this process when its parent ends."""
    if sys.platform.startswith('linux'):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def visible_gpus() -> List[str]:
    """Returns the ids of the visible GPUs."""
    import torch

    said = os.environ.get('CUDA_VISIBLE_DEVICES')
    if said:
        return said.split(',')
    return [str(i) for i in range(torch.cuda.device_count())]


def free_port() -> int:
    """Returns a free port for ``torch.distributed``."""
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]
