"""No checkpoint is lost, and none is left behind."""

import json
import os
import shutil
import signal
import time

import pytest
import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import _load_checkpoint
from tiny_models import tiny_x3d
from toy_training import toy_config, train, train_in_child

from dtkd_mmaction.deployment.student_export import EXPORTED_CONFIGS

BEST_OF_3 = {'best_acc_epoch_3.pth', 'student_best_acc_epoch_3.pth'}
END_OF_3 = BEST_OF_3 | {'epoch_3.pth', 'student_epoch_3.pth'}


def files(folder, ending='.pth'):
    return {p.name for p in folder.iterdir() if p.name.endswith(ending)}


def weights(path):
    return torch.load(path, weights_only=False)['state_dict']


def assert_finished(folder, whole):
    """The same files as a run that was not interrupted, bit for bit."""
    assert files(folder) == files(whole) == END_OF_3
    for name in END_OF_3:
        ours, theirs = weights(folder / name), weights(whole / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    left = [p.name for p in folder.iterdir() if p.name.endswith('.writing')]
    assert not left


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    train(toy_config(folder))  # here, so that children inherit the imports
    return folder


def test_what_a_run_leaves(whole):
    assert files(whole) == END_OF_3
    assert (whole / 'student_config.py').is_file()
    assert (whole / 'last_checkpoint').read_text() == str(
        whole / 'epoch_3.pth'
    )
    record = json.loads((whole / 'run_files.json').read_text())
    assert set(record['files']) == END_OF_3


@pytest.mark.parametrize('event', range(1, 46, 3))
def test_a_kill_before_a_file_event(tmp_path, whole, event):
    """Half files, a checkpoint that was to be removed, a stale export."""
    log = tmp_path / 'log'
    folder = tmp_path / 'run'
    code = train_in_child(toy_config(folder), event, log)
    assert code in (0, -signal.SIGKILL)
    assert train_in_child(toy_config(folder, resume=True), None, log) == 0
    assert_finished(folder, whole)


@pytest.mark.parametrize('how', ['moved', 'copied', 'symlink'])
def test_another_path_to_the_work_dir(tmp_path, whole, how):
    old, new = tmp_path / 'old', tmp_path / 'new'
    train(toy_config(old, 2))
    assert 'best_acc_epoch_2.pth' not in files(old)  # the first is better
    before = {p: p.read_bytes() for p in old.glob('*.pth')}
    if how == 'moved':
        old.rename(new)
    elif how == 'copied':
        shutil.copytree(old, new)
    else:
        new.symlink_to(old)
    train(toy_config(new, 2, resume=True))
    assert 'best_acc_epoch_1.pth' in files(new)
    if how == 'copied':
        assert {p: p.read_bytes() for p in old.glob('*.pth')} == before
        torch.save(dict(state_dict={}), old / 'epoch_2.pth')  # is not read
    train(toy_config(new, 3, resume=True))
    assert_finished(new, whole)
    if how == 'copied':
        assert files(old) == {p.name for p in before}


def test_a_copy_without_its_checkpoint_says_so(tmp_path):
    train(toy_config(tmp_path / 'old', 1))
    (tmp_path / 'new').mkdir()
    shutil.copy(tmp_path / 'old' / 'last_checkpoint', tmp_path / 'new')
    with pytest.raises(FileNotFoundError, match='no epoch_1.pth in this'):
        train(toy_config(tmp_path / 'new', 2, resume=True))
    (tmp_path / 'new' / 'last_checkpoint').write_text('')
    with pytest.raises(FileNotFoundError, match='last_checkpoint.* is empty'):
        train(toy_config(tmp_path / 'new', 2, resume=True))


def test_files_that_the_run_did_not_write_stay(tmp_path):
    train(toy_config(tmp_path, 1))
    others = {
        'best_acc_paper_copy.pth': b'mine',
        'best_acc_epoch_7.pth': b'mine',
        'epoch_0.pth': b'mine',
        'student_mine.pth': b'mine',
        'empty.pth': b'',
        'half.pth': (tmp_path / 'epoch_1.pth').read_bytes()[:500],
    }
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
    for epochs in (2, 3):
        train(toy_config(tmp_path, epochs, resume=True))
    assert files(tmp_path) == END_OF_3 | set(others)
    for name, content in others.items():
        assert (tmp_path / name).read_bytes() == content


def test_a_new_run_leaves_the_files_of_the_one_before(tmp_path):
    train(toy_config(tmp_path, 2))
    (tmp_path / 'epoch_2.pth').rename(tmp_path / 'epoch_9.pth')
    train(toy_config(tmp_path, 1))
    assert files(tmp_path) == {
        'epoch_9.pth',
        'student_epoch_2.pth',
        'best_acc_epoch_1.pth',
        'student_best_acc_epoch_1.pth',
        'epoch_1.pth',
        'student_epoch_1.pth',
    }


def test_an_older_checkpoint_of_the_users_choice(tmp_path):
    """Later checkpoints stay until they are overwritten."""
    options = {'default_hooks.checkpoint.max_keep_ckpts': 2}
    train(toy_config(tmp_path, 3, **options))
    train(
        toy_config(
            tmp_path,
            2,
            resume=True,
            load_from=str(tmp_path / 'epoch_2.pth'),
            **options,
        )
    )
    assert 'epoch_3.pth' in files(tmp_path)
    assert 'best_acc_epoch_3.pth' in files(tmp_path)


def test_a_record_from_elsewhere_removes_nothing_outside(tmp_path):
    train(toy_config(tmp_path / 'run', 1))
    path = tmp_path / 'run' / 'run_files.json'
    record = json.loads(path.read_text())
    (tmp_path / 'epoch_5.pth').write_bytes(b'mine')
    for names in (['../epoch_5.pth'], [3], 'epoch_5.pth', None):
        path.write_text(json.dumps(dict(record, files=names)))
        train(toy_config(tmp_path / 'run', 1, resume=True))
        assert (tmp_path / 'epoch_5.pth').exists()
    path.write_text('{"files"')
    train(toy_config(tmp_path / 'run', 2, resume=True))


def test_out_dir(tmp_path):
    out = tmp_path / 'out'
    options = {'default_hooks.checkpoint.out_dir': str(out)}
    train(toy_config(tmp_path / 'run', 2, **options))
    train(toy_config(tmp_path / 'run', 3, resume=True, **options))
    assert files(out / 'run') == END_OF_3
    assert files(tmp_path / 'run') == set()


def test_one_training_per_work_dir(tmp_path):
    folder, log = tmp_path / 'run', tmp_path / 'log'
    gate = tmp_path / 'gate'
    os.mkfifo(gate)
    pid = os.fork()
    if pid == 0:  # holds the work dir until the gate is opened
        from dtkd_mmaction.file_lock import FolderLock

        FolderLock(folder).take()
        open(gate).read()
        os._exit(0)
    while not (folder / 'run.lock').exists():
        time.sleep(0.01)
    assert train_in_child(toy_config(folder, 1), log=log) == 1
    assert f'belongs to another training: process {pid} on' in log.read_text()
    assert not files(folder)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert train_in_child(toy_config(folder, 1), log=log) == 0


def test_other_processes_do_not_look_for_files_of_the_first(
    tmp_path, monkeypatch
):
    """Such a process may be faster than the one that writes."""
    monkeypatch.setattr('mmengine.dist.utils.is_main_process', lambda: False)
    train(toy_config(tmp_path, 2, **{'default_hooks.checkpoint.by_epoch': 0}))
    assert files(tmp_path) == set()


class TestExport:
    """The student's config is that with which the training began."""

    def config(self, tmp_path, epochs, **options):
        """Names a file for the student, relative to the current folder."""
        config = toy_config(tmp_path / 'run', epochs, **options)
        config.model.student.cfg = 'student.py'
        return config

    @pytest.fixture(autouse=True)
    def student_file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        self.path = tmp_path / 'student.py'
        Config(dict(model=tiny_x3d())).dump(self.path)

    def exported(self, tmp_path, name='student_epoch_1.pth'):
        text = _load_checkpoint(str(tmp_path / 'run' / name))['meta']['cfg']
        from_file = Config.fromfile(tmp_path / 'run' / 'student_config.py')
        assert from_file.model == Config.fromstring(text, '.py').model
        return from_file.model.backbone

    def test_its_file_is_not_read_again(self, tmp_path):
        hook = dict(type='RemovesFileHook', path=str(self.path))
        config = self.config(tmp_path, 1)
        config.custom_hooks.append(hook)
        train(config)
        assert not self.path.exists()
        assert self.exported(tmp_path).type == 'X3D'

    def test_a_resumed_run_refuses_another_student(self, tmp_path):
        train(self.config(tmp_path, 1))
        changed = tiny_x3d()
        changed['backbone']['gamma_w'] = 2
        Config(dict(model=changed)).dump(self.path)
        with pytest.raises(ValueError, match=r"student: \['backbone'\]"):
            train(self.config(tmp_path, 2, resume=True))

    def test_missing_and_half_exports_are_written_at_the_next_start(
        self, tmp_path
    ):
        train(self.config(tmp_path, 1))
        student = tmp_path / 'run' / 'student_epoch_1.pth'
        whole = weights(student)
        student.write_bytes(student.read_bytes()[:1000])
        (tmp_path / 'run' / 'student_best_acc_epoch_1.pth').unlink()
        train(self.config(tmp_path, 1, resume=True))
        for path in (tmp_path / 'run').glob('student_*.pth'):
            assert weights(path).keys() == whole.keys()
        assert 'student_best_acc_epoch_1.pth' in files(tmp_path / 'run')

    def test_a_damaged_best_checkpoint_does_not_end_the_run(self, tmp_path):
        train(self.config(tmp_path, 1))
        best = tmp_path / 'run' / 'best_acc_epoch_1.pth'
        best.write_bytes(best.read_bytes()[:1000])
        train(self.config(tmp_path, 2, resume=True))
        assert 'student_epoch_2.pth' in files(tmp_path / 'run')

    def test_it_travels_in_every_checkpoint(self, tmp_path):
        train(self.config(tmp_path, 1))
        for name in ('epoch_1.pth', 'best_acc_epoch_1.pth'):
            meta = _load_checkpoint(str(tmp_path / 'run' / name))['meta']
            assert 'X3D' in meta[EXPORTED_CONFIGS]['student']
