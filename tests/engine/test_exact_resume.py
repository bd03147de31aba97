"""A run that is killed and resumed ends as one that was not."""

import copy
import os
import os.path as osp
import signal
import sys
import time
from glob import glob
from multiprocessing import get_context

import pytest
import torch
from mmaction.registry import HOOKS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner.checkpoint import find_latest_checkpoint
from noise_clips import noise_run, write_clips
from tiny_models import (
    NUM_CLASSES,
    tiny_multi_teacher,
    tiny_mvit,
    tiny_x3d,
)

from dtkd_mmaction.engine.atomic_checkpoint_hook import AtomicLocalBackend
from dtkd_mmaction.engine.resumable_train_loop import INTERRUPTED_EXIT_CODE


@HOOKS.register_module()
class SignalHook(Hook):
    """Signals its own process at one point of the run."""

    priority = 'LOWEST'

    def __init__(self, point, at, name):
        self.point, self.at, self.name = point, at, name

    def _strike(self, point, at):
        if (point, at) == (self.point, self.at):
            os.kill(os.getpid(), getattr(signal, self.name))

    def before_train_iter(self, runner, **_):
        self._strike('iter', runner.iter)

    def after_train_epoch(self, runner):
        self._strike('epoch', runner.epoch)

    def after_val_iter(self, runner, batch_idx, **_):
        self._strike('val', runner.epoch)

    def after_val_epoch(self, runner, metrics=None):
        self._strike('val_end', runner.epoch)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('resume')
    write_clips(root, dict(train=12, val=4))
    return root


def config(root):
    """Three epochs of three iterations: dropout, EMA, masks and mixup."""
    view = dict(frames=8, size=32)
    blending = dict(type='MixupBlending', num_classes=NUM_CLASSES, alpha=0.8)
    student = tiny_x3d()
    student['data_preprocessor']['blending'] = blending
    return Config(
        dict(
            model=dict(
                type='DualTeacherDistiller',
                student=dict(cfg=student, view=view),
                vit_teacher=dict(cfg=tiny_mvit(), checkpoint=None, view=view),
                cnn_teacher=dict(cfg=tiny_x3d(), checkpoint=None, view=view),
                teacher_mode='bn_eval_only',  # random teachers too
                losses=dict(mgd=dict(type='MGDLoss', teacher='vit')),
            ),
            train_cfg=dict(type='ResumableTrainLoop', max_epochs=3),
            optim_wrapper=dict(
                optimizer=dict(type='SGD', lr=0.02, momentum=0.9)
            ),
            param_scheduler=[
                dict(type='MultiStepLR', milestones=[1, 2], by_epoch=True),
                dict(type='LinearLR', by_epoch=False, end=5),
            ],
            default_hooks=dict(
                checkpoint=dict(
                    type='AtomicCheckpointHook',
                    interval=1,
                    max_keep_ckpts=1,
                    save_best='acc/top1',
                ),
            ),
            custom_hooks=[dict(type='EMAHook')],
            randomness=dict(seed=1, deterministic=True),
            **noise_run(root, 8, 32),
        )
    )


def start(root, name, strike=None, **options):
    """Train in a process of its own; ``strike`` is when and with what."""
    run_config = config(root)
    run_config.work_dir = str(root / name)
    if strike is not None:
        run_config.custom_hooks.append(
            dict(zip(('type', 'point', 'at', 'name'), ('SignalHook', *strike)))
        )
    run_config.merge_from_dict(copy.deepcopy(options))

    def child():
        os.setsid()  # a group of its own, with its workers
        sys.stdout = sys.stderr = open(root / f'{name}.log', 'w', 1)
        torch.set_num_threads(1)
        Runner.from_cfg(run_config).train()

    # Forked: the imports would take most of the time otherwise.
    process = get_context('fork').Process(target=child)
    process.start()
    return process


def train(root, name, strike=None, **options):
    """Exit status of one training process."""
    process = start(root, name, strike, **options)
    process.join()
    return process.exitcode


def last(root, name):
    """The last checkpoint of a run, which must be that of its end."""
    path = find_latest_checkpoint(str(root / name))
    checkpoint = torch.load(path, map_location='cpu', weights_only=False)
    assert checkpoint['meta']['iter'] == 9, (root / f'{name}.log').read_text()
    return checkpoint


def assert_equal(first, second):
    """Weights, averaged weights, momenta: bit for bit."""
    for part in ('state_dict', 'ema_state_dict'):
        assert first[part].keys() == second[part].keys()
        for key, value in first[part].items():
            assert torch.equal(value, second[part][key]), (part, key)
    ours, theirs = (c['optimizer']['state'] for c in (first, second))
    assert ours.keys() == theirs.keys() and ours
    for key, state in ours.items():
        assert torch.equal(
            state['momentum_buffer'], theirs[key]['momentum_buffer']
        )


@pytest.fixture(scope='module')
def uninterrupted(folder):
    assert train(folder, 'whole') == 0
    return last(folder, 'whole')


def test_the_run_moves(folder, uninterrupted):
    """Guards the others: equal because nothing happened is not equal."""
    assert train(folder, 'other', **{'randomness.seed': 2}) == 0
    other = last(folder, 'other')['state_dict']
    assert any(
        not torch.equal(value, other[key])
        for key, value in uninterrupted['state_dict'].items()
    )


@pytest.mark.parametrize(
    'strike',
    [
        ('iter', 4, 'SIGKILL'),  # within the second epoch
        ('epoch', 1, 'SIGKILL'),  # its checkpoint is written
        ('val', 2, 'SIGKILL'),
        ('val_end', 2, 'SIGKILL'),
    ],
)
def test_killed_and_resumed_from_an_epoch(folder, uninterrupted, strike):
    name = '_'.join(map(str, strike))
    assert train(folder, name, strike) == -signal.SIGKILL
    assert train(folder, name, resume=True) == 0
    assert_equal(last(folder, name), uninterrupted)


@pytest.mark.parametrize('workers', [0, 2])
def test_killed_and_resumed_within_an_epoch(folder, uninterrupted, workers):
    """Also with another number of workers than the run before."""
    name = f'within_{workers}'
    options = {
        'default_hooks.checkpoint.by_epoch': False,
        'train_dataloader.num_workers': workers,
    }
    strike = ('iter', 5, 'SIGKILL')
    assert train(folder, name, strike, **options) == -signal.SIGKILL
    options['train_dataloader.num_workers'] = 1
    assert train(folder, name, resume=True, **options) == 0
    assert_equal(last(folder, name), uninterrupted)


def test_several_teachers_of_which_some_are_dropped_at_random(folder):
    options = {
        'model': dict(
            tiny_multi_teacher(fusion_loss=dict(type='UNICDropLoss')),
            _delete_=True,
        ),
    }
    assert train(folder, 'several', **options) == 0
    strike = ('epoch', 1, 'SIGKILL')
    assert train(folder, 'killed', strike, **options) == -signal.SIGKILL
    assert train(folder, 'killed', resume=True, **options) == 0
    assert_equal(last(folder, 'killed'), last(folder, 'several'))


@pytest.mark.parametrize('point, at', [('iter', 4), ('val', 2), ('epoch', 0)])
def test_sigterm_leaves_a_checkpoint_and_its_own_exit_code(
    folder, uninterrupted, point, at
):
    name = f'term_{point}_{at}'
    code = train(folder, name, (point, at, 'SIGTERM'))
    assert code == INTERRUPTED_EXIT_CODE
    assert 'Continue with --resume' in (folder / f'{name}.log').read_text()
    if point == 'iter':
        path = find_latest_checkpoint(str(folder / name))
        assert osp.basename(path) == 'interrupted.pth'
        assert torch.load(path, weights_only=False)['meta']['iter'] == 5
    assert train(folder, name, resume=True) == 0
    assert_equal(last(folder, name), uninterrupted)
    assert not glob(str(folder / name / 'interrupted.pth'))


def test_sigterm_to_the_whole_group_with_workers(folder, uninterrupted):
    """A scheduler also signals the workers of the data loader."""
    process = start(folder, 'group', **{'train_dataloader.num_workers': 2})
    while not glob(str(folder / 'group' / 'epoch_*.pth')):
        assert process.is_alive()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM)
    process.join()
    assert process.exitcode == INTERRUPTED_EXIT_CODE
    assert train(folder, 'group', resume=True) == 0
    assert_equal(last(folder, 'group'), uninterrupted)


def test_an_epoch_of_another_length_is_refused(folder):
    options = {'default_hooks.checkpoint.by_epoch': False}
    strike = ('iter', 5, 'SIGKILL')
    assert train(folder, 'length', strike, **options) != 0
    options['train_dataloader.batch_size'] = 3
    assert train(folder, 'length', resume=True, **options) == 1
    log = (folder / 'length.log').read_text()
    assert 'after batch 2 of 3 of an epoch that now has 4' in log


def test_half_an_accumulated_gradient_is_refused(folder):
    options = {
        'default_hooks.checkpoint.by_epoch': False,
        'default_hooks.checkpoint.interval': 3,
        'optim_wrapper.accumulative_counts': 2,
    }
    assert train(folder, 'accumulation', **options) == 1
    log = (folder / 'accumulation.log').read_text()
    assert 'interval=3 is no multiple of' in log


def test_a_kill_while_writing_leaves_the_file_before(tmp_path, monkeypatch):
    backend, path = AtomicLocalBackend(), tmp_path / 'a.pth'
    backend.put(b'before', path)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, 'replace', killed)
    with pytest.raises(KeyboardInterrupt):
        backend.put(b'after', path)
    assert path.read_bytes() == b'before'


def test_keeps_as_many_as_are_wanted(folder, uninterrupted):
    names = sorted(map(osp.basename, glob(str(folder / 'whole' / '*.pth'))))
    assert names[-1] == 'epoch_3.pth' and len(names) == 2
    assert names[0].startswith('best_acc_top1_epoch_')
    assert not glob(str(folder / 'whole' / '*.writing'))
