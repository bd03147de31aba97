"""Two processes that are killed and resumed end as if nothing had happened."""

import os
import signal

import pytest
import torch
from mmaction.registry import HOOKS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner.checkpoint import find_latest_checkpoint
from noise_clips import noise_run, write_clips
from tiny_models import tiny_single_teacher
from two_processes import join, start_ranks

from dtkd_mmaction.engine.resumable_train_loop import INTERRUPTED_EXIT_CODE

ITERATIONS = 6  # of two epochs


@HOOKS.register_module()
class SignalOneRankHook(Hook):
    """Signals one process before one iteration."""

    priority = 'LOWEST'

    def __init__(self, name, at, rank):
        self.name, self.at, self.rank = name, at, rank

    def before_train_iter(self, runner, **_):
        if (runner.iter, runner.rank) == (self.at, self.rank):
            os.kill(os.getpid(), getattr(signal, self.name))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('two')
    write_clips(root, dict(train=12, val=3))
    return root


def train(root, name, strike=None, **options):
    """Exit codes of both processes."""
    model = tiny_single_teacher(teacher_mode='bn_eval_only')
    config = Config(
        dict(
            model=model,
            train_cfg=dict(type='ResumableTrainLoop', max_epochs=2),
            optim_wrapper=dict(
                optimizer=dict(type='SGD', lr=0.02, momentum=0.9)
            ),
            default_hooks=dict(
                checkpoint=dict(
                    type='AtomicCheckpointHook',
                    interval=1,
                    by_epoch=False,
                    max_keep_ckpts=2,
                    save_best='acc/top1',
                ),
                sync_buffers=dict(type='SyncBuffersHook'),
            ),
            custom_hooks=[dict(type='FastStudentHook'), dict(type='EMAHook')],
            randomness=dict(seed=1, deterministic=True),
            launcher='pytorch',
            work_dir=str(root / name),
            experiment_name=name,
            **noise_run(root, 4, 32),
        ),
        format_python_code=False,
    )
    config.train_dataloader.batch_size = 2
    if strike is not None:
        config.custom_hooks.append(dict(type='SignalOneRankHook', **strike))
    config.merge_from_dict(options)

    def run():
        Runner.from_cfg(config).train()

    return join(start_ranks(run, (), 2, str(root / f'{name}.log')))


def last(root, name):
    path = find_latest_checkpoint(str(root / name))
    checkpoint = torch.load(path, map_location='cpu', weights_only=False)
    assert checkpoint['meta']['iter'] == ITERATIONS
    return checkpoint


def assert_equal(first, second):
    for part in ('state_dict', 'ema_state_dict'):
        assert first[part].keys() == second[part].keys()
        for key, value in first[part].items():
            assert torch.equal(value, second[part][key]), (part, key)
    best = [
        c['message_hub']['runtime_info']['best_score'] for c in (first, second)
    ]
    assert best[0] == best[1]


@pytest.fixture(scope='module')
def uninterrupted(folder):
    assert train(folder, 'whole') == [0, 0]
    return last(folder, 'whole')


@pytest.mark.parametrize('name', ['SIGKILL', 'SIGTERM'])
def test_stopped_within_an_epoch(folder, uninterrupted, name):
    """The statistics of BatchNorm differ between the processes by then."""
    codes = train(folder, name, dict(name=name, at=4, rank=1))
    if name == 'SIGKILL':
        assert codes[1] == -signal.SIGKILL and codes[0] != 0
    else:
        assert codes == [INTERRUPTED_EXIT_CODE] * 2
    assert train(folder, name, resume=True) == [0, 0]
    assert_equal(last(folder, name), uninterrupted)
