"""Trainings that are told to stop, or whose processes or launchers die."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing import get_context

import pytest
from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner
from noise_clips import write_clips
from one_weight import one_weight_run
from two_processes import join, start_ranks

from dtkd_mmaction.engine import launcher_watch
from dtkd_mmaction.engine.resumable_train_loop import INTERRUPTED_EXIT_CODE

# A process that does not end is the fault that is looked for here.
SECONDS = 60


@HOOKS.register_module()
class StrikeHook(Hook):
    """Does something to its own process at one point of the run."""

    priority = 'LOWEST'

    def __init__(self, deed, point, at, rank=None):
        self.deed, self.point, self.at, self.rank = deed, point, at, rank

    def _strike(self, runner, point, at):
        if (point, at) != (self.point, self.at):
            return
        if self.rank not in (None, runner.rank):
            return
        if self.deed == 'fail':
            raise ValueError('boom')
        if self.deed == 'group':
            # As a scheduler does it: from outside.
            group = f'-{os.getpgid(0)}'
            subprocess.run(['kill', '-s', 'TERM', '--', group], check=False)
            time.sleep(0.5)  # until all have received it
        else:
            os.kill(os.getpid(), getattr(signal, self.deed))

    def before_train(self, runner):
        self._strike(runner, 'begin', 0)

    def before_train_iter(self, runner, **_):
        self._strike(runner, 'iter', runner.iter)

    def after_val_iter(self, runner, batch_idx, **_):
        self._strike(runner, 'val', batch_idx)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('stopping')
    write_clips(root, dict(train=8, val=8))
    return root


def start(root, name, strike, ranks=1, **options):
    """Starts a training; ``strike`` is what happens, where and when."""
    hooks = [dict(type='StrikeHook', **strike)]
    options['launcher'] = 'pytorch' if ranks > 1 else 'none'
    config = one_weight_run(root, name, hooks, **options)

    def train():
        try:
            Runner.from_cfg(config).train()
        except Exception as error:
            # The interpreter of a script keeps the last error, too, and
            # with it the frames and their data loaders.
            sys.last_value = error
            raise

    log = str(root / f'{name}.log')
    return start_ranks(train, (), ranks, log, own_group=True)


def logs(root, name, rank=0):
    return (root / f'{name}.log.{rank}').read_text()


@pytest.mark.parametrize('point', ['begin', 'iter', 'val'])
def test_a_process_that_fails_ends_the_other(folder, point):
    name = f'fail_{point}'
    strike = dict(deed='fail', point=point, at=int(point != 'begin'), rank=1)
    processes = start(
        folder, name, strike, 2, **{'val_dataloader.batch_size': 1}
    )
    assert join(processes, SECONDS) == [1, 1]
    assert (
        'Process 1 failed: ValueError: boom This process ended because of it.'
        in logs(folder, name)
    )
    assert 'boom' in logs(folder, name, 1)


def test_a_process_that_is_killed_ends_the_other(folder):
    strike = dict(deed='SIGKILL', point='iter', at=1, rank=1)
    processes = start(folder, 'killed', strike, 2)
    assert join(processes, SECONDS) == [1, -signal.SIGKILL]
    assert 'Another process of this training was killed' in logs(
        folder, 'killed'
    )


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('ranks', [1, 2])
def test_sigterm_to_the_group_while_it_validates(folder, ranks, workers):
    """The workers of the validation are protected as those of training."""
    name = f'group_{ranks}_{workers}'
    strike = dict(deed='group', point='val', at=1, rank=0)
    options = {
        'val_dataloader.batch_size': 1,
        'val_dataloader.num_workers': workers,
        'default_hooks.checkpoint.interval': 2,  # none of this epoch's end
    }
    processes = start(folder, name, strike, ranks, **options)
    codes = join(processes, SECONDS)
    assert codes == [INTERRUPTED_EXIT_CODE] * ranks, logs(folder, name)
    assert (folder / name / 'interrupted.pth').exists()


def test_sigterm_while_it_validates_with_a_checkpoint(folder):
    """All exit at once, also those that wait for another one."""
    strike = dict(deed='group', point='val', at=1, rank=0)
    processes = start(
        folder, 'at_once', strike, 2, **{'val_dataloader.batch_size': 1}
    )
    codes = join(processes, SECONDS)
    assert codes == [INTERRUPTED_EXIT_CODE] * 2, logs(folder, 'at_once')


@pytest.mark.parametrize('persistent', [False, True])
def test_a_failed_run_with_workers_ends(folder, persistent):
    """Python terminates the workers and waits for them."""
    name = f'workers_{persistent}'
    strike = dict(deed='fail', point='iter', at=1)
    options = {
        'train_dataloader.num_workers': 2,
        'train_dataloader.persistent_workers': persistent,
    }
    processes = start(folder, name, strike, **options)
    assert join(processes, SECONDS) == [1]


def test_a_killed_launcher_stops_the_training(folder, monkeypatch):
    """As SIGTERM does, so that it can be resumed."""
    context = get_context('fork')
    pids = context.Queue()

    def launch():
        launcher = os.getpid()
        monkeypatch.setattr(
            launcher_watch,
            'is_launcher',
            lambda pid: pid == launcher,
        )
        strike = dict(deed='fail', point='iter', at=100_000)
        (process,) = start(
            folder, 'orphan', strike, **{'train_cfg.max_epochs': 10_000}
        )
        pids.put(process.pid)
        process.join()

    launcher = context.Process(target=launch)
    launcher.start()
    pid = pids.get()
    try:
        wait_until(lambda: (folder / 'orphan' / 'epoch_1.pth').exists())
        launcher.kill()
        launcher.join()
        wait_until(lambda: not is_running(pid))
    finally:
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)
    assert 'Received SIGTERM' in logs(folder, 'orphan')


def wait_until(condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


@pytest.mark.parametrize(
    'words, expected',
    [
        (['/usr/bin/torchrun', '2'], True),
        (['/opt/env/bin/mim', '2'], True),
        (['sleep', '2'], False),
    ],
)
def test_launchers_are_told_by_their_command_line(words, expected):
    process = subprocess.Popen(words, executable='/bin/sleep')
    try:
        wait_until(lambda: launcher_watch.is_launcher(process.pid) == expected)
        assert launcher_watch.parent_of(process.pid) == os.getpid()
    finally:
        process.kill()
        process.wait()
    assert not launcher_watch.is_launcher(process.pid)
