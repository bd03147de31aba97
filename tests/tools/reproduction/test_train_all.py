"""Runs that end, fail, are stopped and go on."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager

import pytest
from reproduction import (
    ConflictError,
    Launcher,
    State,
    markdown_table,
    measured_rows,
    read_result,
    runs_in_order,
    state_of,
    train_all,
)
from reproduction.launching import move_aside, take_lock
from reproduction.records import note_result
from tiny_distillation import ROOT
from tiny_tables import planner, tiny_table, write_tables

from dtkd_mmaction.file_lock import FolderLock


def planned(folder, seeds=(0, 1), **options):
    plan = planner(folder, **options)
    return runs_in_order(
        run for row in tiny_table(folder).rows for run in plan.runs(row, seeds)
    )


def planned_first(folder):
    """The ViT teacher alone."""
    write_tables(folder)
    return planned(folder, seeds=[0])[:1]


def train(folder, runs, jobs=2):
    said = []
    outcome = train_all(runs, Launcher(str(folder), jobs=jobs), said.append)
    return outcome, said


def test_all_are_trained_then_skipped(tmp_path):
    write_tables(tmp_path)
    runs = planned(tmp_path)
    outcome, said = train(tmp_path, runs)
    assert set(outcome.values()) == {'done'} and len(outcome) == 8
    begun = [line.split(':')[0] for line in said if line.endswith('starts')]
    assert set(begun[:3]) == {
        'vit_teacher seed 0',
        'cnn_teacher seed 0',
        'alone seed 0',
    }
    outcome, said = train(tmp_path, planned(tmp_path))
    assert set(outcome.values()) == {'done'}
    assert said == []


def test_record(tmp_path):
    write_tables(tmp_path)
    runs = planned(tmp_path, seeds=[4])
    train(tmp_path, runs)
    pupil = next(run for run in runs if run.source == 'pupil.py')
    record = read_result(pupil)
    assert record['metrics'] == {'acc/top1': 0.54}
    assert record['seed'] == 4
    assert record['config_sha256'] == pupil.config_sha256
    assert set(record['teachers']) == {'vit_teacher', 'cnn_teacher'}
    launch = record['launches'][0]
    assert launch['exit_code'] == 0
    assert launch['packages']['torch']
    assert set(launch) >= {'commit', 'dirty', 'command', 'seconds'}


def test_means_beside_the_paper(tmp_path):
    write_tables(tmp_path)
    train(tmp_path, planned(tmp_path))
    table = tiny_table(tmp_path)
    rows = measured_rows(table, planner(tmp_path), [0, 1, 2])
    text = markdown_table(table, rows)
    assert '| alone | 2 | 50.50 ± 0.71 | 50.00 | +0.50 |' in text
    assert '| pupil | 2 | 50.50 ± 0.71 | 60.50 | -10.00 |' in text
    assert '| ViT | 1 | 50.00 | - | - |' in text


def test_failure_stops_only_what_needs_it(tmp_path):
    write_tables(tmp_path, cnn_teacher='fail')
    outcome, said = train(tmp_path, planned(tmp_path, seeds=[0]))
    assert outcome == {
        'vit_teacher seed 0': 'done',
        'cnn_teacher seed 0': 'failed',
        'alone seed 0': 'done',
        'pupil seed 0': 'not begun',
        'pupil/pupil,_hot seed 0': 'not begun',
    }
    assert any('exit code 3' in line and 'train.log' in line for line in said)


def test_a_training_that_leaves_no_checkpoint_is_not_done(tmp_path):
    write_tables(tmp_path)
    (tmp_path / 'train.py').write_text('pass')
    outcome, said = train(tmp_path, planned(tmp_path, seeds=[0])[:1])
    assert outcome == {'vit_teacher seed 0': 'failed'}
    assert 'matches no file' in said[-1]


def test_teachers_that_are_done_need_not_be_named(tmp_path):
    write_tables(tmp_path)
    runs = planned(tmp_path, seeds=[0])
    train(tmp_path, runs[:2])
    outcome, _ = train(tmp_path, runs[3:4])
    assert outcome == {'pupil seed 0': 'done'}


def reproduce(folder):
    """The scheduler in a process of its own."""
    script = textwrap.dedent(f"""
        import pathlib, sys
        sys.path[:0] = {sys.path!r}
        from test_train_all import planned, train
        folder = pathlib.Path({str(folder)!r})
        outcome, _ = train(folder, planned(folder, seeds=[0]))
        print(sorted(outcome.values()))
    """)
    return subprocess.Popen(
        [sys.executable, '-c', script], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize('how', [signal.SIGTERM, signal.SIGKILL])
def test_killed_and_run_again(tmp_path, how):
    """The trainings stop with their parent, and the next one goes on."""
    write_tables(tmp_path, alone='wait')
    process = reproduce(tmp_path)
    deadline = time.time() + 60
    while not list(tmp_path.glob('out/**/waits')):
        assert time.time() < deadline
        time.sleep(0.1)
    process.send_signal(how)
    said, _ = process.communicate(timeout=60)
    if how is signal.SIGTERM:
        assert "'interrupted'" in said
    runs = planned(tmp_path, seeds=[0])
    alone = next(run for run in runs if run.source == 'alone.py')
    assert state_of(alone) is State.RESUMABLE
    outcome, said = train(tmp_path, runs)
    assert set(outcome.values()) == {'done'}
    assert 'alone seed 0: resumes' in said
    record = read_result(alone)
    assert record['metrics'] == {'acc/top1': 0.75}  # that of --resume
    assert len(record['launches']) == 2
    codes = [launch.get('exit_code') for launch in record['launches']]
    assert codes == [75 if how is signal.SIGTERM else None, 0]


@contextmanager
def another_process_has(folder, name):
    """A forked process holds a lock of a folder."""
    taken, done = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(done[1])
        FolderLock(folder, name).take()
        os.write(taken[1], b'x')
        os.read(done[0], 1)
        os._exit(0)
    os.read(taken[0], 1)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for end in (*taken, *done):
            os.close(end)


@pytest.mark.parametrize('name', ['lock', 'run.lock'])
def test_run_of_another_process_is_left_to_it(tmp_path, name):
    """Of another launcher, or of a training that outlives its launcher."""
    write_tables(tmp_path)
    (run, *_) = planned(tmp_path)
    with another_process_has(run.work_dir, name):
        assert take_lock(run) is None
    take_lock(run).release()


def test_waiting_for_another_process_can_be_stopped(tmp_path):
    """It says what it waits for; nothing is begun, so nothing failed."""
    write_tables(tmp_path)
    (run, *_) = planned(tmp_path)

    def stop_waiting(line):
        said.append(line)
        os.kill(os.getpid(), signal.SIGTERM)

    said = []
    with another_process_has(run.work_dir, 'lock'):
        outcome = train_all([run], Launcher(str(tmp_path)), stop_waiting)
    assert outcome == {run.name: 'interrupted'}
    assert said == [f'{run.name}: another process trains it; waiting']


def test_what_is_being_trained_is_not_moved_aside(tmp_path):
    write_tables(tmp_path)
    (run, *_) = planned(tmp_path)
    with another_process_has(run.work_dir, 'lock'):
        with pytest.raises(SystemExit, match='another process trains in'):
            move_aside(run)
    assert os.path.isdir(run.work_dir)


def test_slurm_with_and_without_a_partition(tmp_path):
    (run, *_) = planned_first(tmp_path)
    for partition in ('', 'gpu'):
        launcher = Launcher(str(tmp_path), slurm=partition, gpus=16)
        launcher.check()
        command = launcher.command(run, 'config.py', True)
        assert command[1:] == [
            str(tmp_path / 'slurm_train.sh'),
            *(partition, 'vit_teacher_seed_0', 'config.py', '--resume'),
        ]
        assert launcher.environment(0)['GPUS_PER_NODE'] == '8'


@pytest.mark.parametrize('partition', ['', 'gpu'])
def test_slurm_script(tmp_path, partition):
    """Without a partition srun takes the cluster's default."""
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"')
    srun.chmod(0o755)
    path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
    script = os.path.join(ROOT, 'tools', 'slurm_train.sh')
    said = subprocess.run(
        ['bash', script, partition, 'job', 'config.py'],
        env=dict(os.environ, PATH=path),
        text=True,
        capture_output=True,
        check=True,
    ).stdout.splitlines()
    assert said[: said.index('--job-name=job')] == (
        ['-p', partition] if partition else []
    )


def test_interrupted_checkpoint_is_no_result(tmp_path):
    write_tables(tmp_path)
    (run, *_) = planned_first(tmp_path)
    train(tmp_path, [run])
    for name in ('interrupted.pth', 'last_checkpoint'):
        with open(os.path.join(run.work_dir, name), 'w') as f:
            f.write('interrupted.pth')
    with pytest.raises(ValueError, match='default_hooks.checkpoint'):
        note_result(run)


def test_damaged_record(tmp_path):
    """It is named; without it the run goes on from its checkpoint."""
    write_tables(tmp_path)
    (run, *_) = planned_first(tmp_path)
    train(tmp_path, [run])
    path = os.path.join(run.work_dir, 'result.json')
    with open(path) as f:
        right = json.load(f)
    for wrong in (
        '{"config',
        '[]',
        '{}',
        json.dumps(dict(right, metrics=[0.5])),
        json.dumps(dict(right, metrics={'acc/top1': '0.5'})),
        json.dumps(dict(right, launches=['python'])),
        json.dumps(dict(right, checkpoint=None)),
    ):
        with open(path, 'w') as f:
            f.write(wrong)
        with pytest.raises(SystemExit, match=f'{path} is damaged.*Remove it'):
            state_of(run)
    os.remove(path)
    assert state_of(run) is State.RESUMABLE


def test_row_with_options_has_no_figure_of_the_paper(tmp_path):
    write_tables(tmp_path)
    rows = measured_rows(tiny_table(tmp_path), planner(tmp_path), [0])
    papers = {row['name']: row['paper'] for row in rows}
    assert papers['pupil'] == {'Top-1': 60.5}
    assert papers['pupil, hot'] == {}


def test_changed_config_is_a_conflict(tmp_path):
    write_tables(tmp_path)
    train(tmp_path, planned(tmp_path, seeds=[0]))
    changed = planned(tmp_path, [0], cfg_options={'train_cfg.max_epochs': 9})
    with pytest.raises(ConflictError, match='--retrain'):
        state_of(changed[0])
    assert move_aside(changed[0]).endswith('vit.replaced1')
    assert state_of(changed[0]) is State.MISSING


def test_another_teacher_is_a_conflict(tmp_path):
    write_tables(tmp_path)
    runs = planned(tmp_path, seeds=[0])
    train(tmp_path, runs)
    path = os.path.join(runs[0].work_dir, 'result.json')
    with open(path) as f:
        record = json.load(f)
    record['checkpoint_sha256'] = 'another'
    with open(path, 'w') as f:
        json.dump(record, f)
    pupil = next(run for run in runs if run.source == 'pupil.py')
    with pytest.raises(ConflictError, match='vit_teacher'):
        state_of(pupil)


def test_half_a_line_in_the_log(tmp_path):
    """A kill may cut the scalars off; the rest counts."""
    write_tables(tmp_path)
    text = (tmp_path / 'train.py').read_text()
    text += "    f.write('{\"acc/top')\n"
    (tmp_path / 'train.py').write_text(text)
    outcome, _ = train(tmp_path, planned(tmp_path, seeds=[0])[:1])
    assert outcome == {'vit_teacher seed 0': 'done'}


def test_gpus_of_every_training(tmp_path, monkeypatch):
    """Each has its own; more than there are is an error, not a CPU run."""
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,5,6,7')
    launcher = Launcher(str(tmp_path), gpus=2, jobs=2)
    launcher.check()
    assert launcher.environment(1)['CUDA_VISIBLE_DEVICES'] == '6,7'
    with pytest.raises(SystemExit, match='--jobs 3 times --gpus 2.* 4 GPUs'):
        Launcher(str(tmp_path), gpus=2, jobs=3).check()


def test_signal_while_a_training_starts(tmp_path, monkeypatch):
    """It is told to stop as well, not waited for."""
    write_tables(tmp_path, alone='wait')
    alone = next(
        run for run in planned(tmp_path, seeds=[0]) if run.source == 'alone.py'
    )
    popen = subprocess.Popen

    def start(*args, **options):
        process = popen(*args, **options)
        if 'git' in args[0]:
            return process
        while not os.path.exists(os.path.join(alone.work_dir, 'waits')):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)
        return process

    monkeypatch.setattr('reproduction.launching.subprocess.Popen', start)
    outcome, _ = train(tmp_path, [alone])
    assert outcome == {'alone seed 0': 'interrupted'}
    assert read_result(alone) is None
