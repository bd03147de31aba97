"""Trains runs, several at a time, teachers before students."""

import ctypes
import fcntl
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

from .plan import Run
from .records import (
    ConflictError,
    State,
    note_exit,
    note_launch,
    note_result,
    state_of,
)

POLL_SECONDS = 0.2


class Launcher(NamedTuple):
    """How a training is started.

    Attributes:
        tools (str): Folder of ``train.py`` and its shell scripts.
        gpus (int): Processes of one training.
        slurm (str, optional): Partition; '' is the cluster's default.
        jobs (int): Trainings at the same time.
    """

    tools: str
    gpus: int = 1
    slurm: Optional[str] = None
    jobs: int = 1

    def check(self) -> None:
        """Raises if there are fewer GPUs than the trainings would take.

        Raises:
            SystemExit: If so; without any GPU they run on the CPU.
        """
        found = len(visible_gpus())
        if self.slurm is None and 0 < found < self.jobs * self.gpus:
            raise SystemExit(
                f'--jobs {self.jobs} times --gpus {self.gpus}: this machine '
                f'shows {found} GPUs.'
            )

    def command(self, run: Run, config: str, resume: bool) -> List[str]:
        """The command line of a training.

        Args:
            run (Run): Which.
            config (str): Its resolved config.
            resume (bool): Whether there is a checkpoint. Not always: with
                ``--resume`` MMAction2 forgets ``load_from``.
        """
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
        """The environment of the training in a slot, from 0 on."""
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
    """A run that is being trained."""

    run: Run
    process: subprocess.Popen
    begun: float
    lock: int
    slot: int


def train_all(
    runs: List[Run], launcher: Launcher, say: Callable[[str], None]
) -> Dict[str, str]:
    """Train runs until each is done or cannot be.

    SIGTERM and Ctrl-C have the trainings write a checkpoint and stop; so
    does the death of this process. Runs that another process trains are
    waited for.

    Args:
        runs (list[Run]): Teachers before students.
        launcher (Launcher): How to start them.
        say (callable): Prints a line.

    Returns:
        dict[str, str]: Run -> ``'done'``, ``'failed'``, ``'interrupted'``
            (or told to stop before it was begun) or ``'not begun'``, for
            want of a teacher.
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
            # Its leader alone: it stops its workers after the checkpoint.
            training.process.send_signal(signal.SIGTERM)

    def begin_if_possible(run: Run) -> None:
        teachers = {t.name for t in run.teachers.values()} & names
        if any(outcome.get(name, 'done') != 'done' for name in teachers):
            waiting.remove(run)
            outcome[run.name] = 'not begun'
            say(f'{run.name}: not begun, for want of a teacher')
        elif len(running) < launcher.jobs and teachers <= outcome.keys():
            taken = {training.slot for training in running}
            slot = min(set(range(launcher.jobs)) - taken)
            training = begin(run, launcher, slot, outcome, say)
            if training is not None:
                running.append(training)
                if told:  # while it was started
                    training.process.send_signal(signal.SIGTERM)
            if training is not None or run.name in outcome:
                waiting.remove(run)
            elif run.name not in elsewhere:
                elsewhere.add(run.name)
                say(f'{run.name}: another process trains it; waiting for that')

    signals = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, stop) for number in signals}
    try:
        while running or (waiting and not told):
            for training in list(running):
                if training.process.poll() is not None:
                    running.remove(training)
                    outcome[training.run.name] = end(training, bool(told), say)
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
    say: Callable[[str], None],
) -> Optional[Training]:
    """Start a run, unless another process has it or it is done by now."""
    lock = take_lock(run)
    if lock is None:
        return None
    try:
        state = state_of(run)
    except ConflictError as error:
        outcome[run.name] = 'failed'
        say(f'{run.name}: {error}')
        os.close(lock)
        return None
    if state is State.DONE:
        outcome[run.name] = 'done'
        os.close(lock)
        return None
    config = osp.join(run.work_dir, 'config.py')
    run.config.dump(config)
    command = launcher.command(run, config, state is State.RESUMABLE)
    note_launch(run, command)
    log = osp.join(run.work_dir, 'train.log')
    say(f'{run.name}: {"goes on" if "--resume" in command else "begins"}')
    with open(log, 'ab') as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=launcher.environment(slot),
            start_new_session=True,  # Ctrl-C is passed on, not shared
            preexec_fn=stop_with_parent,
            # The lock is free when neither this process nor the training
            # is alive any more.
            pass_fds=[lock],
        )
    return Training(run, process, time.time(), lock, slot)


def end(
    training: Training, told_to_stop: bool, say: Callable[[str], None]
) -> str:
    """Writes down how a training ended, and give its lock back."""
    run, code = training.run, training.process.returncode
    seconds = time.time() - training.begun
    note_exit(run, code, seconds)
    log = osp.join(run.work_dir, 'train.log')
    outcome = 'done'
    if code == 0:
        try:
            note_result(run)
            say(f'{run.name}: done in {seconds / 3600:.2f} h')
        except ValueError as error:
            outcome = 'failed'
            say(f'{run.name}: failed. {error} See {log}')
    elif code == INTERRUPTED_EXIT_CODE or told_to_stop:
        outcome = 'interrupted'
        say(f'{run.name}: interrupted; the same command goes on')
    else:
        outcome = 'failed'
        say(f'{run.name}: failed with exit code {code}, see {log}')
    os.close(training.lock)
    return outcome


def take_lock(run: Run) -> Optional[int]:
    """An open file that locks a run, or None if another process has it."""
    os.makedirs(run.work_dir, exist_ok=True)
    lock = os.open(osp.join(run.work_dir, 'lock'), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def move_aside(run: Run) -> str:
    """Rename a run's folder to one that is free, and return that.

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
    os.close(lock)
    return aside


def stop_with_parent() -> None:
    """Have Linux send SIGTERM to this process when its parent dies."""
    if sys.platform.startswith('linux'):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def visible_gpus() -> List[str]:
    """What ``CUDA_VISIBLE_DEVICES`` would say of all of them."""
    import torch

    said = os.environ.get('CUDA_VISIBLE_DEVICES')
    if said:
        return said.split(',')
    return [str(i) for i in range(torch.cuda.device_count())]


def free_port() -> int:
    """A port for ``torch.distributed`` that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]
