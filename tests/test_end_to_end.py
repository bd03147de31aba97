"""The main job on real mp4 files, through the commands that users type."""

import json
import os
import os.path as osp
import re
import subprocess
import sys
import textwrap
from glob import glob

import numpy as np
import pytest
import torch
from mmengine.config import Config
from tiny_models import (
    FRAMES,
    NUM_CLASSES,
    SIZE,
    batch,
    tiny_mvit,
    tiny_x3d,
)

from dtkd_mmaction.recognizers.model_spec import build_recognizer

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
CONFIG = 'configs/dtkd/x3d_s_hmdb51.py'


def run(*command, cwd=ROOT, **env):
    """Runs a command of the environment's; return what it printed."""
    path = osp.dirname(sys.executable) + os.pathsep + os.environ['PATH']
    env = dict(os.environ, PATH=path, OMP_NUM_THREADS='1', **env)
    result = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return result.returncode, result.stdout


def succeed(*command, **kwargs):
    code, text = run(*command, **kwargs)
    assert code == 0, text[-6000:]
    return text


def last_log(work_dir):
    """Scalars that the runner logged, one dict a line."""
    path = sorted(glob(f'{work_dir}/*/vis_data/scalars.json'))[-1]
    with open(path) as f:
        return [json.loads(line) for line in f]


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    """Eight training and four validation clips of 48 px."""
    import cv2

    root = tmp_path_factory.mktemp('clips')
    rng = np.random.default_rng(0)
    for split, count in (('train', 8), ('val', 4)):
        lines = []
        for i in range(count):
            name, label = f'{split}_{i}.mp4', i % NUM_CLASSES
            writer = cv2.VideoWriter(
                str(root / name), cv2.VideoWriter_fourcc(*'mp4v'), 10, (64, 48)
            )
            for t in range(16):
                frame = rng.integers(0, 60, (48, 64, 3), np.uint8)
                frame[:, (4 * t + 16 * label) % 64 :][:, :12] += 120
                writer.write(frame)
            writer.release()
            lines.append(f'{name} {label}')
        (root / f'{split}.txt').write_text('\n'.join(lines))
    return root


@pytest.fixture(scope='module')
def teachers(tmp_path_factory):
    """Checkpoints of the tiny teachers, with random weights."""
    folder = tmp_path_factory.mktemp('teachers')
    torch.manual_seed(0)
    for name, cfg in (('vit', tiny_mvit()), ('cnn', tiny_x3d(16))):
        model = build_recognizer(Config(dict(model=cfg)), 'model')
        torch.save(
            dict(state_dict=model.state_dict()), folder / f'best_{name}.pth'
        )
    return folder


@pytest.fixture(scope='module')
def options(clips, teachers):
    """``--cfg-options`` that bring the paper's config down to the clips."""
    found = [
        'train_dataloader.batch_size=4',
        'val_dataloader.batch_size=2',
        'train_cfg.max_epochs=2',
        'default_hooks.logger.interval=1',
        f'model.num_classes={NUM_CLASSES}',
        'model.student.checkpoint=None',
        f'model.vit_teacher.checkpoint={teachers}/best_vit*.pth',
        f'model.cnn_teacher.checkpoint={teachers}/best_cnn*.pth',
    ]
    for loader, split in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        dataset = 'dataset.dataset' if loader == 'train' else 'dataset'
        found += [
            f'{loader}_dataloader.num_workers=0',
            f'{loader}_dataloader.persistent_workers=False',
            f'{loader}_dataloader.{dataset}.ann_file={clips}/{split}.txt',
            f'{loader}_dataloader.{dataset}.data_prefix.video={clips}',
        ]
    return found


@pytest.fixture(scope='module')
def config(tmp_path_factory, options):
    """The paper's config with tiny models, as a user's own file."""
    student = dict(cfg=tiny_x3d(), view=dict(frames=FRAMES, size=SIZE))
    vit = dict(
        cfg=tiny_mvit(),
        checkpoint=None,
        view=dict(frames=FRAMES, size=SIZE),
    )
    cnn = dict(cfg=tiny_x3d(16), checkpoint=None, view=dict(size=48, frames=4))
    text = f"""
        _base_ = {osp.join(ROOT, CONFIG)!r}
        model = dict(
            student=dict(_delete_=True, **{student}),
            vit_teacher=dict(_delete_=True, **{vit}),
            cnn_teacher=dict(_delete_=True, **{cnn}))
        randomness = dict(seed=0)
    """
    path = tmp_path_factory.mktemp('config') / 'tiny.py'
    path.write_text(textwrap.dedent(text))
    loaded = Config.fromfile(path)
    for loader in ('train', 'val', 'test'):
        dataset = loaded[f'{loader}_dataloader'].dataset
        for transform in dataset.get('dataset', dataset).pipeline:
            if transform.type == 'SampleFrames':
                transform.update(clip_len=FRAMES, frame_interval=2)
                if loader == 'test':
                    transform.num_clips = 2
            elif transform.type == 'Resize':
                whole = transform.scale[0] == transform.scale[1]
                transform.scale = (48, 48) if whole else (-1, 52)
            elif transform.type in ('CenterCrop', 'ThreeCrop'):
                transform.crop_size = 48 if transform.type[0] == 'C' else 52
    loaded.dump(path)
    return str(path)


@pytest.fixture(scope='module')
def trained(tmp_path_factory, config, options):
    """Work dir and output of ``mim train``."""
    work_dir = str(tmp_path_factory.mktemp('run'))
    text = succeed(
        'mim',
        'train',
        'mmaction',
        config,
        '--work-dir',
        work_dir,
        '--cfg-options',
        *options,
    )
    return work_dir, text


def test_mim_train_logs_every_term(trained):
    work_dir, text = trained
    assert 'Epoch(val) [2]' in text
    steps = [x for x in last_log(work_dir) if 'loss_cls' in x]
    assert len(steps) == 4  # 2 epochs of 8 clips, 4 a step
    for step in steps:
        parts = [step[k] for k in step if k.startswith('loss_')]
        assert len(parts) == 4
        assert step['datw/vit'] + step['datw/cnn'] == pytest.approx(1)


def test_students_beside_the_checkpoints(trained):
    work_dir, _ = trained
    kept = {osp.basename(p) for p in glob(f'{work_dir}/*.pth')}
    full = {name for name in kept if not name.startswith('student_')}
    assert {'epoch_1.pth', 'epoch_2.pth'} < full
    assert any(name.startswith('best_acc_top1') for name in full)
    assert kept - full == {f'student_{name}' for name in full}


def test_mim_test_evaluates_either_form(trained, config, options):
    work_dir, _ = trained
    accuracies = set()
    for checkpoint in ('epoch_2.pth', 'student_epoch_2.pth'):
        text = succeed(
            'mim',
            'test',
            'mmaction',
            config,
            '--checkpoint',
            f'{work_dir}/{checkpoint}',
            '--work-dir',
            f'{work_dir}/test',
            '--cfg-options',
            *options,
        )
        assert 'is random and teaches nothing' not in text
        accuracies.add(re.search(r'acc/top1: [\d.]+', text)[0])
    assert len(accuracies) == 1
    text = succeed(
        sys.executable,
        'tools/test.py',
        config,
        f'{work_dir}/student_epoch_2.pth',
        '--work-dir',
        f'{work_dir}/test',
        '--cfg-options',
        *options,
    )
    assert accuracies == {re.search(r'acc/top1: [\d.]+', text)[0]}


def test_resume_goes_on_where_the_run_was_killed(
    trained, config, options, tmp_path
):
    """From the first epoch's checkpoint to the second's, bit by bit."""
    work_dir, _ = trained
    text = succeed(
        'mim',
        'train',
        'mmaction',
        config,
        '--work-dir',
        str(tmp_path),
        '--resume',
        f'{work_dir}/epoch_1.pth',
        '--cfg-options',
        *options,
    )
    assert 'Epoch(train) [1]' not in text
    assert 'Epoch(train) [2]' in text
    resumed = torch.load(tmp_path / 'epoch_2.pth', weights_only=True)
    assert resumed['meta']['epoch'] == 2
    assert {name.split('.')[0] for name in resumed['state_dict']} == {
        'student',
        'branch',
        'trust',
    }


CLEAN = """
    import importlib.abc, sys

    class NoPlugin(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            assert not name.startswith('dtkd_mmaction'), name

    sys.meta_path.insert(0, NoPlugin())
    sys.modules['torchvision'] = None  # as where it is not installed
    import torch
    from mmengine.config import Config
    from mmengine.runner import load_checkpoint
    checkpoint, config, clips, out = sys.argv[1:]
    config = Config.fromfile(config)  # brings what mmaction2 1.2.0 lacks
    from mmaction.registry import MODELS
    from mmaction.utils import register_all_modules
    register_all_modules()
    model = MODELS.build(config.model).eval()
    state = torch.load(checkpoint, weights_only=True)['state_dict']
    model.load_state_dict(state, strict=True)
    load_checkpoint(model, checkpoint, strict=True)
    with torch.no_grad():
        logits = model(torch.load(clips), mode='tensor', stage='head')
    parameters = sum(p.numel() for p in model.parameters())
    torch.save((logits, parameters), out)
"""


def test_the_export_is_a_stock_model_without_this_package(trained, tmp_path):
    """strict=True, bit-equal logits, no parameter more."""
    from mmaction.registry import MODELS

    work_dir, _ = trained
    distiller = MODELS.build(Config.fromfile(f'{work_dir}/tiny.py').model)
    full = torch.load(f'{work_dir}/epoch_2.pth', weights_only=True)
    distiller.load_state_dict(full['state_dict'])
    student = distiller.student.eval()
    clips = student.data_preprocessor(batch(3, pixels=SIZE))['inputs']
    with torch.no_grad():
        expected = student(clips, mode='tensor', stage='head')

    torch.save(clips, tmp_path / 'clips.pt')
    (tmp_path / 'clean.py').write_text(textwrap.dedent(CLEAN))
    succeed(
        sys.executable,
        '-W',
        'ignore',
        str(tmp_path / 'clean.py'),
        f'{work_dir}/student_epoch_2.pth',
        f'{work_dir}/student_config.py',
        str(tmp_path / 'clips.pt'),
        str(tmp_path / 'out.pt'),
        cwd=str(tmp_path),
        PYTHONPATH='',
    )
    logits, parameters = torch.load(tmp_path / 'out.pt')
    assert torch.equal(logits, expected)
    assert parameters == sum(p.numel() for p in student.parameters())


def test_export_tool_equals_the_hook(trained, tmp_path):
    work_dir, _ = trained
    out = str(tmp_path / 'out.pth')
    text = succeed(
        sys.executable,
        'tools/export_student.py',
        f'{work_dir}/epoch_2.pth',
        '--out',
        out,
    )
    assert out in text
    by_hook = torch.load(f'{work_dir}/student_epoch_2.pth', weights_only=True)
    by_tool = torch.load(out, weights_only=True)
    assert by_hook['state_dict'].keys() == by_tool['state_dict'].keys()
    for name, value in by_hook['state_dict'].items():
        assert torch.equal(value, by_tool['state_dict'][name])
    assert by_tool['meta']['cfg'] == by_hook['meta']['cfg']


def test_two_processes_train(config, options, tmp_path):
    """tools/dist_train.sh on the CPU; every rank takes half of the clips."""
    succeed(
        'bash',
        'tools/dist_train.sh',
        config,
        '2',
        '--work-dir',
        str(tmp_path),
        '--cfg-options',
        *options,
        'train_cfg.max_epochs=1',
        PORT=str(29500 + os.getpid() % 2000),
    )
    steps = [x for x in last_log(tmp_path) if 'loss_cls' in x]
    assert len(steps) == 1
    assert glob(f'{tmp_path}/student_epoch_1.pth')


def test_amp_accumulation_and_ema(config, options, tmp_path):
    user = tmp_path / 'user.py'
    user.write_text(
        f'_base_ = {config!r}\n'
        "custom_hooks = [dict(type='EMAHook'), "
        "dict(type='StudentExportHook')]\n"
    )
    succeed(
        'mim',
        'train',
        'mmaction',
        str(user),
        '--amp',
        '--work-dir',
        str(tmp_path),
        '--cfg-options',
        *options,
        'train_dataloader.batch_size=2',
        'optim_wrapper.accumulative_counts=2',
        'train_cfg.max_epochs=1',
    )
    steps = [x for x in last_log(tmp_path) if 'loss_cls' in x]
    assert all(np.isfinite(step['loss']) for step in steps)
    full = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    student = torch.load(tmp_path / 'student_epoch_1.pth', weights_only=True)
    averaged = full['ema_state_dict']
    assert not any('teacher' in name for name in averaged)
    name = 'backbone.conv1_s.conv.weight'
    assert torch.equal(
        student['state_dict'][name], full['state_dict'][f'student.{name}']
    )
    assert not torch.equal(
        student['state_dict'][name], averaged[f'module.student.{name}']
    )


@pytest.mark.parametrize(
    'option, message',
    [
        (
            'model.vit_teacher.checkpoint=no/such.pth',
            r"model\.vit_teacher\.checkpoint='no/such\.pth': there is no such",
        ),
        (
            'train_dataloader.dataset.dataset.ann_file=no/list.txt',
            r"train_dataloader\.dataset\.dataset\.ann_file='no/list\.txt': "
            r'does not exist',
        ),
        (
            'model.studnet=1',
            r'model\.studnet: DualTeacherDistiller has no such key\. Did you '
            r'mean model\.student\?',
        ),
        (
            'model.cnn_teacher.tap=backbone.layer9',
            r"model\.cnn_teacher\.tap: 'backbone\.layer9'(.|\n)*"
            r'backbone\.layer4: \(C, T, H, W\)',
        ),
    ],
)
def test_bad_input_ends_before_the_first_step(
    config, options, tmp_path, option, message
):
    code, text = run(
        sys.executable,
        'tools/train.py',
        config,
        '--work-dir',
        str(tmp_path),
        '--cfg-options',
        *options,
        option,
    )
    assert code != 0
    assert re.search(message, text), text[-3000:]
    assert 'Epoch(train)' not in text
