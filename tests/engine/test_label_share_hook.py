"""A label loss that other losses drown is noticed."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmaction.registry import MODELS
from tiny_models import batch, tiny_distiller, tiny_single_teacher

from dtkd_mmaction.engine.label_share_hook import LabelShareHook, label_share


class Log(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def run(model, steps, **options):
    """The hook and so many training steps; returns the warnings."""
    torch.manual_seed(0)
    model = MODELS.build(model)
    model.init_weights()
    model.train()
    log = Log()
    logger = logging.Logger('label_share')
    logger.addHandler(log)
    hook = LabelShareHook(**options)
    runner = SimpleNamespace(model=model, iter=0, logger=logger)
    seen = []
    for _ in range(steps):
        hook.before_train_iter(runner, 0)
        data = model.data_preprocessor(batch(), training=True)
        _, values = model.parse_losses(model(**data, mode='loss'))
        seen.append({k for k in values if k.startswith('gradient/')})
        hook.after_train_iter(runner, 0, outputs=values)
        runner.iter += 1
    return log.lines, seen


def test_share():
    assert label_share({}) == 1
    assert label_share(dict(sr=3.0)) == 0.25
    assert label_share(dict(sr=3.0, sd=9.0), max_ratio=1) == pytest.approx(
        1 / 3
    )


def test_warns_once_of_the_largest_term():
    kd = dict(type='KDLoss', loss_weight=1e5)
    at = dict(type='KDLoss', loss_weight=1.0)
    model = tiny_single_teacher(losses=dict(kd=kd, small=at))
    lines, seen = run(model, 14, interval=2)
    assert len(lines) == 1
    assert 'The label loss is drowned' in lines[0]
    assert 'loss_kd' in lines[0]
    # Only the steps that were asked for are measured.
    assert seen[0] == {'gradient/kd', 'gradient/small'}
    assert seen[1] == set()


def test_too_few_measurements_are_no_warning():
    kd = dict(type='KDLoss', loss_weight=1e5)
    lines, _ = run(tiny_single_teacher(losses=dict(kd=kd)), 4, interval=1)
    assert not lines


def test_the_defaults_do_not_drown_it():
    model = tiny_distiller(teacher_trust=False)
    lines, seen = run(model, 6, interval=1)
    assert not lines
    assert 'gradient/sr' in seen[0]


def test_a_limit_holds_for_one_teacher_too():
    kd = dict(type='KDLoss', loss_weight=1e5)
    limited = tiny_single_teacher(losses=dict(kd=kd), max_gradient_ratio=1.0)
    lines, _ = run(limited, 6, interval=1)
    assert not lines


def test_wrong_options():
    with pytest.raises(ValueError, match='interval=0'):
        LabelShareHook(interval=0)
