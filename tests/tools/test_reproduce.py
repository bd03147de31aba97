"""The command line of tools/reproduce.py, on tiny models that do train."""

import json
import os
import os.path as osp
import signal
import subprocess
import sys
import time

import pytest
from mmengine.config import Config
from noise_clips import noise_run, write_clips
from tiny_models import FRAMES, SIZE, tiny_mvit, tiny_x3d

ROOT = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
TABLES = """
stage_one: ['*_teacher.py']
paper: {dtkd.py: 77.06}
tables:
  tiny:
    title: Noise
    metrics: {Top-1: acc/top1}
    rows:
      alone: alone.py
      DT-KD: dtkd.py
"""


def config(model, **rest):
    """One epoch on the clips of ``data/noise``."""
    return Config(
        dict(
            model=model,
            train_cfg=dict(type='ResumableTrainLoop', max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            default_hooks=dict(
                checkpoint=dict(type='AtomicCheckpointHook', interval=1)
            ),
            **noise_run('data/noise', FRAMES, SIZE),
            **rest,
        )
    )


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('reproduce')
    clips = root / 'data' / 'noise'
    clips.mkdir(parents=True)
    write_clips(clips, dict(train=8, val=4))
    (root / 'tables.yml').write_text(TABLES)
    view = dict(frames=FRAMES, size=SIZE)
    distiller = dict(
        type='DualTeacherDistiller',
        student=dict(cfg=tiny_x3d(), view=view),
    )
    for name, model in (('vit', tiny_mvit()), ('cnn', tiny_x3d())):
        work_dir = f'work_dirs/{name}'
        config(model, work_dir=work_dir).dump(root / f'{name}_teacher.py')
        distiller[f'{name}_teacher'] = dict(
            cfg=model, checkpoint=f'{work_dir}/epoch_*.pth', view=view
        )
    config(tiny_x3d()).dump(root / 'alone.py')
    config(distiller).dump(root / 'dtkd.py')
    return root


def command(folder, *arguments):
    tool = osp.join(ROOT, 'tools', 'reproduce.py')
    options = dict(
        tables=folder / 'tables.yml',
        data_root=folder / 'data',
        work_root=folder / 'out',
        seeds=1,
    )
    for name, value in options.items():
        arguments += (f'--{name.replace("_", "-")}', str(value))
    return [sys.executable, tool, 'tiny', *arguments]


def run(folder, *arguments):
    return subprocess.run(
        command(folder, *arguments), text=True, capture_output=True
    )


def test_plan_trainings_kill_and_table(folder):
    planned = run(folder, '--dry-run')
    assert planned.returncode == 0, planned.stderr
    lines = planned.stdout.splitlines()
    order = [line.split()[2] for line in lines if line.startswith('missing')]
    assert order == ['vit_teacher', 'cnn_teacher', 'alone', 'dtkd']
    assert not list(folder.glob('out/**/*.pth'))

    begun = folder / 'out' / 'reproduce' / 'dtkd' / 'seed0' / 'begun.json'
    arguments = ('--jobs', '2', '--json', str(folder / 'table.json'))
    process = subprocess.Popen(
        command(folder, *arguments), stdout=subprocess.PIPE, text=True
    )
    deadline = time.time() + 300
    while not begun.exists() and process.poll() is None:
        assert time.time() < deadline
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 75, said

    again = run(folder, *arguments, '--out', str(folder / 'table.md'))
    assert again.returncode == 0, again.stdout + again.stderr
    assert 'vit_teacher' not in again.stdout  # that was done
    with open(folder / 'table.json') as f:
        rows = {row['name']: row for row in json.load(f)['rows']}
    record = rows['DT-KD']['runs'][0]
    assert len(record['launches']) == 2
    top1 = 100 * record['metrics']['acc/top1']
    table = (folder / 'table.md').read_text()
    assert f'| DT-KD | 1 | {top1:.2f} | 77.06 | {top1 - 77.06:+.2f} |' in table
    # The record's checkpoint is the one that is there, a whole student.
    checkpoint = folder / 'out' / record['folder'] / record['checkpoint']
    assert osp.isfile(checkpoint)
    assert list(folder.glob('out/reproduce/dtkd/seed0/epoch_1*.pth'))


def test_bad_inputs(folder):
    unknown = run(folder, '--rows', 'CRD')
    assert 'CRD' in unknown.stderr and 'DT-KD' in unknown.stderr
    nobody = run(folder, '--students', 'movinet')
    assert 'no row is left' in nobody.stderr
    lost = subprocess.run(
        [
            *command(folder),
            *('--data-root', str(folder / 'nowhere')),
            *('--work-root', str(folder / 'new')),
        ],
        text=True,
        capture_output=True,
    )
    assert 'nowhere/noise/train.txt' in lost.stderr
    for result in (unknown, nobody, lost):
        assert result.returncode == 1
        assert 'Traceback' not in result.stderr
