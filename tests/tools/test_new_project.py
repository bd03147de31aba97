"""From a folder of videos to a project, in layouts that people have."""

import os
import os.path as osp
import shutil

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from noise_clips import noise_pipeline
from projects.command import main
from projects.speed import Speed
from reproduction import Launcher, Planner, read_tables, runs_in_order
from reproduction.records import note_launch, note_result
from reproduction.stages import stage_result
from tiny_models import FRAMES, SIZE, tiny_mvit, tiny_x3d

from dtkd_mmaction.config_check import check_config

SPEED = Speed(decode=0.1, student=0.1, vit=0.1, cnn=0.1)
TOOLS = osp.join(
    osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__)))), 'tools'
)


def write_clip(path, seed, frames=12):
    path.parent.mkdir(parents=True, exist_ok=True)
    # OpenCV knows containers by lower-case suffixes.
    plain = path.with_suffix(path.suffix.lower())
    writer = cv2.VideoWriter(
        str(plain), cv2.VideoWriter_fourcc(*'mp4v'), 10, (64, 48)
    )
    rng = np.random.default_rng(seed)
    for _ in range(frames):
        writer.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    plain.rename(path)


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    """Two classes of six clips each; two clips come from one source."""
    folder = tmp_path_factory.mktemp('my videos')
    for seed, name in enumerate(['turn left', '走る']):
        for i in range(6):
            suffix = 'MP4' if i % 2 else 'mp4'
            path = folder / name / f'shot{i // 2}-{i % 2}.{suffix}'
            write_clip(path, 10 * seed + i)
    return folder


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """Configs of a tiny student and two tiny teachers."""
    folder = tmp_path_factory.mktemp('models')
    for name, model in (
        ('student', tiny_x3d()),
        ('vit', tiny_mvit()),
        ('cnn', tiny_x3d(16)),
    ):
        pipeline = noise_pipeline(FRAMES, SIZE)
        config = Config(dict(model=model, train_pipeline=pipeline))
        config.dump(folder / f'{name}.py')
    return [
        *('--student', str(folder / 'student.py'), '--size', str(SIZE)),
        *('--vit-teacher', str(folder / 'vit.py')),
        *('--cnn-teacher', str(folder / 'cnn.py')),
    ]


@pytest.fixture(scope='module')
def project(videos, models, tmp_path_factory):
    out = tmp_path_factory.mktemp('out') / 'a project'
    main('', [str(videos), '--out', str(out), '--epochs', '2', *models])
    return out


def planned(project):
    path = str(project / 'tables.yml')
    planner = Planner(path)
    (table,) = read_tables(path).values()
    runs = [run for row in table.rows for run in planner.runs(row, [0])]
    return runs_in_order(runs)


def test_lists(project, videos):
    assert (project / 'classes.txt').read_text() == 'turn left\n走る\n'
    train = (project / 'train.txt').read_text().splitlines()
    val = (project / 'val.txt').read_text().splitlines()
    assert len(train) == 8 and len(val) == 4
    for line in train + val:
        name, label = line.split(',')  # names have spaces
        assert (videos / name).is_file()
        assert name.startswith(['turn left', '走る'][int(label)])

    def sources(lines):
        return {line.rpartition('-')[0] for line in lines}

    assert not sources(train) & sources(val)


def test_every_config_is_right(project):
    """But for the teachers, which are not trained yet."""
    for name in ('vit_teacher', 'cnn_teacher', 'student_alone', 'dtkd'):
        config = Config.fromfile(project / 'configs' / f'{name}.py')
        problems = [
            str(finding)
            for finding in check_config(config)
            if 'work_dirs' not in str(finding)
        ]
        assert not problems
        # The name of a class tells left from right.
        pipeline = config.train_dataloader.dataset.dataset.pipeline
        assert 'Flip' not in [step.type for step in pipeline]


def test_the_runs_of_the_project(project):
    runs = planned(project)
    assert [run.name for run in runs] == [
        'configs/vit_teacher seed 0',
        'configs/cnn_teacher seed 0',
        'configs/dtkd teacher cache',
        'configs/student_alone seed 0',
        'configs/dtkd seed 0',
    ]
    work = str(project / 'work_dirs')
    assert all(run.work_dir.startswith(work) for run in runs)
    cache, dtkd = runs[2], runs[4]
    model = dtkd.config.model
    assert model.vit_teacher.checkpoint == f'{work}/vit_teacher/epoch_*.pth'
    assert model.teacher_cache == f'{cache.work_dir}/cache'
    assert dtkd.clips == 8
    command = Launcher(TOOLS).command(cache, 'config.py', resume=False)
    assert command[1:3] == [f'{TOOLS}/cache_teachers.py', 'config.py']
    assert command[command.index('--views') + 1] == '10'
    assert command[command.index('--out') + 1] == model.teacher_cache


def test_a_project_can_be_moved(project, tmp_path):
    before = {run.name: run.config_sha256 for run in planned(project)}
    moved = tmp_path / 'elsewhere'
    shutil.copytree(project, moved)
    after = {run.name: run.config_sha256 for run in planned(moved)}
    assert before == after


def test_readme_has_the_commands(project):
    text = (project / 'README.md').read_text()
    assert f"reproduce.py --tables '{project}'/tables.yml" in text
    assert f"mim train dtkd_mmaction '{project}'/configs/dtkd.py" in text
    assert '| 走る | 4 | 2 |' in text
    assert '| **all** | ' in text
    assert 'not mirrored' in text


def test_an_existing_project(project, videos, models, capsys):
    command = [str(videos), '--out', str(project), '--epochs', '3', *models]
    with pytest.raises(SystemExit, match='--overwrite'):
        main('', command)
    kept = project / 'work_dirs' / 'result'
    kept.parent.mkdir(exist_ok=True)
    kept.write_text('mine')
    config = project / 'configs' / '_base_' / 'student.py'
    assert 'max_epochs=2' in config.read_text()
    main('', [*command, '--overwrite'])
    assert 'max_epochs=3' in config.read_text()
    assert kept.read_text() == 'mine'
    # Clips that were checked are not opened again.
    assert 'Checking clips' not in capsys.readouterr().out


def test_a_folder_of_somebody_else(videos, tmp_path):
    (tmp_path / 'thesis.txt').write_text('years')
    with pytest.raises(SystemExit, match='not empty .thesis.txt'):
        main('', [str(videos), '--out', str(tmp_path)])


def test_all_problems_at_once(videos, models, tmp_path):
    bad = tmp_path / 'videos'
    shutil.copytree(videos, bad)
    (bad / 'turn left' / 'empty.mp4').write_bytes(b'')
    (bad / 'turn left' / 'text.avi').write_text('no video' * 100)
    (bad / 'turn left' / 'gone.mp4').symlink_to(tmp_path / 'nowhere.mp4')
    shutil.copy(bad / 'turn left' / 'shot0-0.mp4', bad / '走る' / 'same.mp4')
    shutil.copy(bad / 'turn left' / 'shot2-0.mp4', bad / 'turn left' / 'x.mp4')
    write_clip(bad / 'jump' / 'only.mp4', 50)
    write_clip(bad / 'loose.mp4', 51)
    out = tmp_path / 'out'
    command = [str(bad), '--out', str(out), '--student', 'x3d-q', *models[2:]]
    with pytest.raises(SystemExit) as caught:
        main('', command)
    message = str(caught.value)
    for part in (
        'lie in no class folder, such as',
        '1 clips are empty',
        '1 clips are unreadable',
        '1 clips are missing',
        'have several classes',
        "one clip only: 'jump'",
        '--student x3d-q: no such model',
    ):
        assert part in message, message
    assert not (out / 'tables.yml').exists()
    (bad / 'loose.mp4').unlink()
    shutil.rmtree(bad / 'jump')
    main('', [str(bad), '--out', str(out), '--skip-bad', *models])
    text = (out / 'README.md').read_text()
    assert 'copies of others' in text and 'left out' in text
    lines = ''.join((out / f'{n}.txt').read_text() for n in ('train', 'val'))
    assert lines.count('\n') == 11
    for name in ('same', 'shot0-0.mp4', 'gone', 'text', 'empty'):
        in_class = lines.count(f'turn left/{name}')
        assert not in_class, lines


def test_probed_teachers(videos, models, tmp_path, monkeypatch):
    """The config says so, and its run is the probe."""
    pytest.importorskip('timm')
    out = tmp_path / 'probed'
    monkeypatch.setattr('projects.command.measure', lambda *_: SPEED)
    monkeypatch.setattr('projects.disk.cache_bytes', lambda _: 1000)
    main('', [str(videos), '--out', str(out), *models[:4]])
    readme = (out / 'README.md').read_text()
    assert f'--only dinov2_s efficientnet_lite0 --out {out}/checkpoints' in (
        readme
    )
    runs = planned(out)
    probe = runs[0]
    assert (probe.kind, runs[4].kind) == ('probe', 'training')
    how = probe.needed_files[f'{out}/checkpoints/dinov2_s.pth']
    assert 'pretrained_teachers.py --only dinov2_s' in how
    command = Launcher(TOOLS).command(probe, 'config.py', resume=False)
    assert command[1:3] == [f'{TOOLS}/probe_teacher.py', 'config.py']
    assert any(part.startswith('--group-by=') for part in command)
    with pytest.raises(ValueError, match='probe.pth was not written'):
        stage_result(probe)
    os.makedirs(probe.work_dir)
    note_launch(probe, command)
    meta = dict(probe=dict(validation_accuracy=0.75, views=4))
    torch.save(
        dict(meta=meta, state_dict={}), osp.join(probe.work_dir, 'probe.pth')
    )
    result = note_result(probe)
    assert result['metrics'] == {'acc/top1': 0.75}
    assert runs[4].config.model.vit_teacher.checkpoint == osp.join(
        probe.work_dir, 'probe.pth'
    )


def test_help_names_the_models(capsys):
    with pytest.raises(SystemExit) as caught:
        main('The help.', ['--help'])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert 'movinet-a0' in said and 'mvitv2-s' in said and 'The help.' in said
