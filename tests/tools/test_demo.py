"""The README's first command, with few clips and one epoch."""

import json
import sys

import demo
import numpy as np
import pytest
import torch
from demonstration import (
    RUNS,
    Predictions,
    Result,
    SeedResult,
    Trainings,
    draw_picture,
    verdict,
)
from demonstration.picture import choose_clips
from mmengine.config import Config
from test_configs import ROOT

from dtkd_mmaction.recognizers.model_spec import build_recognizer

CLIPS = dict(pretrain=80, train=16, val=8)


def seed_result(alone, dtkd, vit=0.9, cnn=0.95, seed=0):
    """A result with 8 clips of 8 classes and the given accuracies."""

    def run(top1):
        return Result([1, 2, 3], 6, [top1 / 2, top1 - 0.05, top1], [], 1.0)

    def scores(accuracy):
        answers = np.arange(8)
        answers[round(8 * accuracy) :] -= 1
        return np.eye(8)[answers]

    clip = torch.randint(0, 255, (1, 3, 8, 32, 32), dtype=torch.uint8)
    return SeedResult(
        seed,
        dict(
            vit_teacher=run(vit),
            cnn_teacher=run(cnn),
            student_alone=run(alone),
            dtkd=run(dtkd),
        ),
        Predictions(
            [clip] * 8,
            np.arange(8),
            dict(student_alone=scores(alone), dtkd=scores(dtkd)),
        ),
    )


def test_four_trainings_one_table_one_student(tmp_path, monkeypatch, capsys):
    out, figures = tmp_path / 'out', tmp_path / 'demo.json'
    monkeypatch.setattr(
        demo, 'CLIPS_PER_CLASS', dict(pretrain=3, train=2, val=1)
    )
    options = [
        'train_cfg.max_epochs=1',
        'train_cfg.val_begin=1',
        'train_cfg.val_interval=1',
        'default_hooks.checkpoint.interval=1',
        'default_hooks.logger.interval=1',
    ]
    monkeypatch.setattr(
        sys,
        'argv',
        ['demo.py', f'--data={tmp_path / "clips"}', f'--out={out}']
        + ['--seed', '5', f'--json={figures}', '--cfg-options', *options],
    )
    demo.main()
    printed = ' '.join(capsys.readouterr().out.split())
    for model in RUNS.values():
        assert printed.count(model) >= 2  # while it trains, in the table
    assert 'learn from 24 labelled clips' in printed
    assert 'On 8 clips that no model was trained on' in printed
    assert (out / 'demo.png').stat().st_size > 50_000
    student = build_recognizer(
        Config.fromfile(f'{ROOT}/configs/demo/student_alone.py'), 'model'
    )
    checkpoint = out / 'seed_5/dtkd/student_epoch_1.pth'
    assert str(checkpoint) in printed
    weights = torch.load(checkpoint)
    student.load_state_dict(weights['state_dict'], strict=True)
    # What the trainings logged is what the exported students predict.
    found = json.loads(figures.read_text())
    assert found['clips'] == dict(pretrain=24, train=16, val=8)
    (seed,) = found['seeds']
    assert seed['seed'] == 5
    for run in ('student_alone', 'dtkd'):
        measured = seed['runs'][run]
        assert measured['steps'] == 1
        assert np.mean(list(measured['top1_by_class'].values())) == (
            pytest.approx(measured['top1'])
        )
    # The views of a list are decoded once, for both models.
    assert len(list((out / 'seed_5/views').glob('*'))) == 2


def test_words_tell_a_gain_a_loss_and_weak_teachers():
    better = ' '.join(verdict([seed_result(0.5, 0.75)], CLIPS))
    assert '50.0 %' in better and '25.0 points more with DT-KD' in better
    assert '2 clips are recognised only with DT-KD, 0 only' in better
    assert 'Both teachers are above both' in better
    worse = ' '.join(verdict([seed_result(0.75, 0.5, vit=0.6)], CLIPS))
    assert '25.0 points less with DT-KD' in worse
    assert 'The teachers are not above both' in worse
    same = ' '.join(verdict([seed_result(0.5, 0.5)], CLIPS))
    assert 'no difference' in same


def test_words_count_the_seeds():
    results = [seed_result(0.5, 0.75), seed_result(0.5, 0.375, seed=1)]
    told = ' '.join(verdict(results, CLIPS))
    assert 'above the student alone in 1 of 2 seeds' in told
    assert '+6.2 points on average' in told
    assert 'from -12.5 to +25.0' in told


def test_the_picture_shows_clips_on_which_the_students_disagree(tmp_path):
    results = [seed_result(0.5, 0.75), seed_result(0.5, 0.625, seed=1)]
    labels = np.repeat(np.arange(8), 3)
    scores = {run: np.eye(8)[labels] for run in ('student_alone', 'dtkd')}
    scores['student_alone'][4] = np.eye(8)[7]  # the second clip of class 1
    scores['dtkd'][8] = np.eye(8)[0]  # the third clip of class 2
    predictions = Predictions([], labels, scores)
    chosen = choose_clips(predictions, per_class=2)
    assert chosen[:6] == [0, 1, 4, 3, 8, 6]
    path = tmp_path / 'demo.png'
    draw_picture(results, demo.CLASSES, str(path), per_class=1)
    assert path.stat().st_size > 50_000


def test_a_training_that_fails_ends_the_demo_with_its_output(
    tmp_path, monkeypatch
):
    class Progress:
        def add_task(self, *args, **kwargs):
            return 0

        def update(self, *args, **kwargs):
            pass

    command = [sys.executable, '-c']
    monkeypatch.setattr(
        Trainings,
        '_command',
        lambda self, name: (
            command
            + (
                ['raise SystemExit("no clips here")']
                if name == 'vit_teacher'
                else ['import time; time.sleep(60)']
            )
        ),
    )
    trainings = Trainings(0, 'clips', str(tmp_path), [], Progress())
    with pytest.raises(RuntimeError, match='no clips here'):
        trainings.run()
    assert len(trainings._processes) == 2  # no other was begun
    assert all(p.poll() is not None for p in trainings._processes)


def test_a_seed_given_twice_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['demo.py', '--seeds', '1', '1'])
    with pytest.raises(SystemExit):
        demo.parse_args()
    assert 'every seed can be given once' in capsys.readouterr().err
