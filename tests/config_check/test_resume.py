"""Resuming a run whose losses have changed since."""

from types import SimpleNamespace

import pytest
import torch
from mmaction.registry import MODELS
from tiny_models import tiny_single_teacher

from dtkd_mmaction.config_check import ConfigError
from dtkd_mmaction.config_check.resume import ResumeCheckHook

FEATURES = dict(at=dict(type='MGDLoss'))


def written_by(losses):
    """Model, optimizer and checkpoint of a run with some losses."""
    model = MODELS.build(tiny_single_teacher(losses=losses))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    state = dict(
        state_dict=model.state_dict(), optimizer=optimizer.state_dict()
    )
    return model, optimizer, state


@pytest.fixture(scope='module')
def runs():
    return {'with': written_by(FEATURES), 'without': written_by({})}


def load(run, checkpoint, resume=True):
    model, optimizer, _ = run
    runner = SimpleNamespace(
        model=model,
        optim_wrapper=SimpleNamespace(optimizer=optimizer),
        _resume=resume,
        _load_from='epoch_1.pth',
    )
    ResumeCheckHook().after_load_checkpoint(runner, checkpoint)


@pytest.mark.parametrize(
    'now, before, reason',
    [
        ('without', 'with', r'lacks model\.losses\.at: .*switched off since'),
        ('with', 'without', r'lacks model\.losses\.at: .*switched on since'),
    ],
)
def test_the_loss_is_named(runs, now, before, reason):
    with pytest.raises(ConfigError, match=f"resume='epoch_1.pth'.*{reason}"):
        load(runs[now], runs[before][2])
    load(runs[now], runs[before][2], resume=False)


def test_the_same_losses(runs):
    for run in runs.values():
        load(run, run[2])
