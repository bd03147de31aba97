"""The README's first command, with few clips and one epoch."""

import sys

import demo
import torch
from mmengine.config import Config
from test_configs import ROOT

from dtkd_mmaction.recognizers.model_spec import (
    build_recognizer,
)


def test_four_trainings_one_table_one_student(tmp_path, monkeypatch, capsys):
    out = tmp_path / 'out'
    monkeypatch.setattr(demo, 'CLIPS_PER_CLASS', dict(train=2, val=1))
    monkeypatch.setattr(
        sys,
        'argv',
        ['demo.py', f'--data={tmp_path / "clips"}', f'--out={out}']
        + ['--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_begin=1']
        + ['train_cfg.val_interval=1'],
    )
    demo.main()
    said = ' '.join(capsys.readouterr().out.split())
    for model in demo.RUNS.values():
        assert said.count(model) >= 2  # while it trains, and in the table
    assert 'on 8 validation clips' in said
    assert (out / 'curves.png').stat().st_size > 10_000
    student = build_recognizer(
        Config.fromfile(f'{ROOT}/configs/demo/student_alone.py'), 'model'
    )
    weights = torch.load(out / 'dtkd' / 'student_epoch_1.pth')
    student.load_state_dict(weights['state_dict'], strict=True)
