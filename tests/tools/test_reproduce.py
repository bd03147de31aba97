"""The command line of tools/reproduce.py, on tiny models that do train."""

import io
import json
import os
import os.path as osp
import shutil
import signal
import subprocess
import sys
import time

import pytest
from mmengine.config import Config
from noise_clips import noise_run, write_clips
from reproduction import Counter, gpu_hours
from tiny_distillation import load_tool
from tiny_models import FRAMES, SIZE, tiny_mvit, tiny_x3d
from tiny_tables import planner, tiny_table, write_tables

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
    assert 'pkg_resources' not in planned.stderr
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


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The command on a trainer that trains nothing, in this process."""
    write_tables(tmp_path)
    tool = load_tool('../reproduce')
    monkeypatch.setattr(tool, 'TOOLS', str(tmp_path))

    def command(*arguments):
        options = dict(tables='tables.yml', data_root='data', work_root='out')
        argv = ['reproduce.py', 'tiny', *arguments]
        for name, path in options.items():
            argv += [f'--{name.replace("_", "-")}', str(tmp_path / path)]
        monkeypatch.setattr('sys.argv', argv)
        said = []
        code = tool.reproduce(tool.parse_args(), said.append)
        return code, [line for line in said if isinstance(line, str)]

    return command


def trained(said):
    return [line.split(':')[0] for line in said if line.endswith('starts')]


@pytest.mark.parametrize(
    'arguments',
    [
        ('--seeds', '0'),
        ('--seed-list', '-1'),
        ('--jobs', '0'),
        ('--gpus', '0'),
        ('--gpu-tflops', '0'),
    ],
)
def test_numbers_that_make_no_sense(tiny, capsys, arguments):
    with pytest.raises(SystemExit):
        tiny(*arguments)
    option, value = arguments
    assert f'argument {option}: {value}: ' in capsys.readouterr().err


def test_a_student_that_no_row_has(tiny):
    with pytest.raises(SystemExit, match="slowfast: .*'alone', 'pupil'"):
        tiny('--students', 'alone', 'slowfast')


def test_one_seed_twice_is_one_run(tiny, tmp_path):
    path = tmp_path / 'table.json'
    tiny('--seed-list', '4', '4', '--rows', 'alone', '--json', str(path))
    with open(path) as f:
        (row,) = json.load(f)['rows']
    assert len(row['runs']) == 1


@pytest.mark.parametrize('option', ['--out', '--json'])
def test_where_nothing_can_be_written(tiny, tmp_path, option):
    """Said before anything is trained."""
    (tmp_path / 'file').write_text('')
    with pytest.raises(SystemExit, match=f'{option}: .*file'):
        tiny(option, str(tmp_path / 'file' / 'table'))
    assert not (tmp_path / 'out').exists()
    (tmp_path / 'out').write_text('')
    with pytest.raises(SystemExit, match='--work-root: .*out'):
        tiny()


def test_teacher_of_students_that_are_done_is_not_trained(tiny, tmp_path):
    tiny('--rows', 'pupil', '--seeds', '1')
    shutil.rmtree(tmp_path / 'out' / 'vit')
    assert tiny('--rows', 'pupil', '--seeds', '1') == (0, [])


@pytest.mark.parametrize(
    'text, problem', [(None, 'is missing'), ('other', 'has changed')]
)
def test_checkpoint_of_a_teacher_that_is_lost(tiny, tmp_path, text, problem):
    """Only a student that is not trained yet needs it."""
    tiny('--rows', 'pupil', '--seeds', '1')
    checkpoint = tmp_path / 'out' / 'vit' / 'epoch_2.pth'
    checkpoint.unlink()
    if text:
        checkpoint.write_text(text)
    assert tiny('--rows', 'pupil', '--seeds', '1') == (0, [])
    with pytest.raises(SystemExit, match=f'{checkpoint} {problem}'):
        tiny('--rows', 'pupil', '--seeds', '2')
    _, said = tiny('--rows', 'pupil', '--seeds', '2', '--retrain')
    assert trained(said) == [
        'vit_teacher seed 0',
        'pupil seed 0',  # its teacher is another one now
        'pupil seed 1',
    ]


def test_runs_of_another_config_are_not_left_out_silently(tiny):
    tiny('--rows', 'alone', '--seeds', '1')
    options = ('--cfg-options', 'train_cfg.max_epochs=9', '--print-only')
    _, (line,) = tiny('--rows', 'alone', '--seeds', '1', *options)
    assert line.startswith('Not in the table: ') and 'another config' in line


def test_a_narrow_terminal_cuts_no_figure_off(tiny, tmp_path, monkeypatch):
    """Nor a name; a table that is too wide is folded by the terminal."""
    tiny('--rows', 'alone', '--seeds', '2')
    monkeypatch.setenv('COLUMNS', '20')
    monkeypatch.setenv('TERM', 'xterm')
    tool = load_tool('../reproduce')
    shown = io.StringIO()
    shown.isatty = lambda: True
    monkeypatch.setattr('sys.stdout', shown)
    monkeypatch.setattr('sys.argv', [*sys.argv, '--print-only'])
    monkeypatch.setattr(tool.logging, 'disable', lambda level: None)
    with pytest.raises(SystemExit):
        tool.main()
    assert '50.50 ± 0.71   50.00        +0.50' in shown.getvalue()


def test_costs_that_cannot_be_kept_or_told(tmp_path):
    said = []
    (tmp_path / 'file').write_text('')
    counter = Counter(str(tmp_path / 'file' / 'macs.json'), said.append)
    x3d = Config(dict(model=tiny_x3d()))
    assert counter.count(x3d, FRAMES, SIZE, 'X3D') > 0
    assert said[1].startswith('The counts could not be stored')
    write_tables(tmp_path)
    run = planner(tmp_path).run(tiny_table(tmp_path).rows[1], 0)
    run.config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=9)
    assert gpu_hours(run, 10, counter) is None
