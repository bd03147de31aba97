"""What is said of the teachers before the first step, and that it is true."""

import json
import os

import pytest
import torch
from mmengine.config import Config
from noise_clips import noise_run, write_clips
from tiny_models import FRAMES, NUM_CLASSES, SIZE, tiny_mvit, tiny_x3d
from toy_training import ToyRunner as Runner

from dtkd_mmaction.engine import TeacherReportHook
from dtkd_mmaction.engine.teacher_accuracy import (
    FILE,
    Accuracies,
    evaluation_clips,
    evenly_spaced,
    largest_view,
    logits_of,
    measure_accuracies,
    read_accuracies,
    write_accuracies,
)
from dtkd_mmaction.engine.teacher_report_hook import problems
from dtkd_mmaction.recognizers.model_spec import build_recognizer

KEYS = dict(vit='model.vit_teacher', cnn='model.cnn_teacher')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Clips of noise, and a CNN teacher that always answers class 2."""
    root = tmp_path_factory.mktemp('report')
    write_clips(root, dict(train=8, val=10))
    torch.manual_seed(0)
    for name, cfg in (('vit', tiny_mvit()), ('cnn', tiny_x3d(16))):
        model = build_recognizer(Config(dict(model=cfg)), name)
        if name == 'cnn':
            with torch.no_grad():
                model.cls_head.fc2.bias[2] += 100
        torch.save(dict(state_dict=model.state_dict()), root / f'{name}.pth')
    return root


def config(root, work_dir, hook=True, **options):
    view = dict(frames=FRAMES, size=SIZE)
    run = Config(
        dict(
            model=dict(
                type='DualTeacherDistiller',
                student=dict(cfg=tiny_x3d(), view=view),
                vit_teacher=dict(
                    cfg=tiny_mvit(), checkpoint=f'{root}/vit.pth', view=view
                ),
                cnn_teacher=dict(
                    cfg=tiny_x3d(16),
                    checkpoint=f'{root}/cnn.pth',
                    view=dict(frames=FRAMES, size=40),
                ),
            ),
            train_cfg=dict(type='ResumableTrainLoop', max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            custom_hooks=[dict(type='TeacherReportHook')] if hook else [],
            randomness=dict(seed=0),
            experiment_name=f'report_{os.path.basename(str(work_dir))}',
            work_dir=str(work_dir),
            **noise_run(root, FRAMES, 48),
        ),
        format_python_code=False,
    )
    run.merge_from_dict(options)
    return run


def test_the_figures_are_the_teachers(folder, tmp_path):
    """Of 10 clips with labels 0, 1, 2, 3, 0, ... two have label 2."""
    runner = Runner.from_cfg(config(folder, tmp_path / 'a'))
    runner.train()
    (found,) = read_accuracies(tmp_path / 'a')
    assert found.chance == 1 / NUM_CLASSES
    assert found.clips == 10
    assert found.models['cnn'] == pytest.approx(0.2)
    # Each teacher saw its own view of the largest one.
    assert largest_view(runner.model, ['student', 'vit', 'cnn']) == dict(
        frames=FRAMES, size=(40, 40)
    )
    log = next((tmp_path / 'a').glob('*/*.log')).read_text()
    assert 'on 10 validation clips (chance is 25.0 %): student ' in log
    assert 'model.cnn_teacher is near chance on the validation clips' in log


def test_logits_are_those_of_the_stock_model(folder, tmp_path):
    """Against the recognizer itself on clips of its own pipeline."""
    runner = Runner.from_cfg(config(folder, tmp_path / 'b'))
    model = runner.model.eval()
    model.init_weights()
    loader = runner.cfg.val_dataloader
    dataset = evaluation_clips(model, ['vit'], loader['dataset'])
    clip = dataset[3]['inputs'][None]
    assert clip.shape[-3:] == (FRAMES, SIZE, SIZE)
    stock = model.teachers['vit'].recognizer
    wanted = stock.extract_feat(
        stock.data_preprocessor(dict(inputs=[clip[0]], data_samples=None))[
            'inputs'
        ],
        stage='head',
    )[0]
    assert torch.allclose(logits_of(model, 'vit', clip), wanted, atol=1e-5)
    student = logits_of(model, 'student', clip)
    data = dict(inputs=[clip[0]], data_samples=None)
    data = model.student.data_preprocessor(data)
    wanted = model.student.extract_feat(data['inputs'], stage='head')[0]
    assert torch.allclose(student, wanted, atol=1e-5)


def test_training_is_the_same_with_and_without(folder, tmp_path):
    states = []
    for name, hook in (('with', True), ('without', False)):
        runner = Runner.from_cfg(config(folder, tmp_path / name, hook))
        runner.train()
        states.append(runner.model.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_a_resumed_run_repeats_the_figures(folder, tmp_path):
    Runner.from_cfg(config(folder, tmp_path / 'r')).train()
    kept = [Accuracies('', 0.25, 10, dict(student=0.5, vit=0.9, cnn=0.9))]
    write_accuracies(tmp_path / 'r', kept)
    resumed = config(
        folder,
        tmp_path / 'r',
        **{
            'train_cfg.max_epochs': 2,
            'resume': True,
            'experiment_name': 'report_resumed',
        },
    )
    Runner.from_cfg(resumed).train()
    logs = ''.join(p.read_text() for p in (tmp_path / 'r').glob('*/*.log'))
    assert 'student 50.0 %, vit 90.0 %, cnn 90.0 %' in logs
    assert read_accuracies(tmp_path / 'r') == kept


def test_some_of_the_clips(folder, tmp_path):
    """Evenly spaced: of ten clips 0, 2, 5 and 7, with labels 0, 2, 1, 3."""
    run = config(folder, tmp_path / 'some')
    runner = Runner.from_cfg(run)
    runner.model.init_weights()
    assert evenly_spaced(10, 4) == [0, 2, 5, 7]
    found = measure_accuracies(runner.model, ['cnn'], run.val_dataloader, 4)
    assert found == [Accuracies('', 0.25, 4, dict(cnn=0.25))]


@pytest.mark.parametrize(
    'accuracy, clips, near',
    [(0.3, 1000, True), (0.36, 1000, False), (0.44, 20, True)],
)
def test_near_chance(accuracy, clips, near):
    found = Accuracies('', 0.25, clips, dict(vit=accuracy))
    assert found.near_chance('vit') == near


def test_a_teacher_below_the_student_is_named():
    found = Accuracies('', 0.1, 500, dict(student=0.8, vit=0.7, cnn=0.9))
    (problem,) = problems(found, KEYS)
    assert problem.startswith('model.vit_teacher is less accurate than the ')
    assert '70.0 % against 80.0 %' in problem


def test_a_damaged_file_and_wrong_options(tmp_path):
    (tmp_path / FILE).write_text(json.dumps(dict(parts=[dict(odd=1)])))
    with pytest.raises(ValueError, match=FILE):
        read_accuracies(tmp_path)
    with pytest.raises(ValueError, match='max_clips=0'):
        TeacherReportHook(max_clips=0)
