"""A schedule fits the number of epochs with one key."""

import pytest
import torch
from mmengine.runner import Runner
from noise_clips import write_clips
from one_weight import one_weight_run

from dtkd_mmaction.engine.schedule_length import stretched_schedule

STEPS = dict(type='MultiStepLR', begin=0, end=50, milestones=[20, 40])
WARM_UP = dict(type='LinearLR', start_factor=0.01, begin=0, end=15)
COSINE = dict(type='CosineAnnealingLR', T_max=35, begin=15, end=50)


def test_milestones():
    (found,) = stretched_schedule([STEPS], 20)
    assert found == dict(STEPS, end=20, milestones=[8, 16])
    assert STEPS['milestones'] == [20, 40]  # untouched
    assert stretched_schedule(STEPS, 50) == [STEPS]


def test_warm_up_and_cosine():
    found = stretched_schedule([WARM_UP, COSINE], 10)
    assert found == [
        dict(WARM_UP, end=3),
        dict(COSINE, T_max=7, begin=3, end=10),
    ]


def test_a_single_epoch():
    """The warm-up has no epoch left."""
    found = stretched_schedule([WARM_UP, COSINE], 1)
    assert found == [dict(COSINE, T_max=1, begin=0, end=1)]


def test_iterations_are_left_alone():
    by_iteration = dict(type='LinearLR', by_epoch=False, end=500)
    assert stretched_schedule([by_iteration, STEPS], 25)[0] == by_iteration


def test_a_schedule_without_end():
    with pytest.raises(ValueError, match='stretch_schedule=True: no entry'):
        stretched_schedule([dict(type='MultiStepLR', milestones=[1])], 20)


def test_the_loop_stretches_it(tmp_path):
    write_clips(tmp_path, dict(train=2))
    config = one_weight_run(tmp_path, 'run', [], epochs=5)
    config.param_scheduler = [dict(STEPS, gamma=0.1)]
    config.train_cfg.stretch_schedule = True
    runner = Runner.from_cfg(config)
    runner.train()
    (scheduler,) = runner.param_schedulers
    assert scheduler.end == 5 and sorted(scheduler.milestones) == [2, 4]
    rate = runner.optim_wrapper.optimizer.param_groups[0]['lr']
    base = config.optim_wrapper.optimizer.lr
    torch.testing.assert_close(rate, base * 0.01)
