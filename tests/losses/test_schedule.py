"""Epoch and warm-up, read from MMEngine's message hub."""

import pytest
from mmengine.logging import MessageHub

from dtkd_mmaction.losses.schedule import current_epoch, warm_up


@pytest.fixture
def set_epoch():
    """Sets the epoch, counted from 0, as a runner does."""
    hub = MessageHub.get_current_instance()
    before = hub.pop_info('epoch')
    yield lambda epoch: hub.update_info('epoch', epoch)
    hub.pop_info('epoch')
    if before is not None:
        hub.update_info('epoch', before)


def test_first_epoch_without_a_runner(set_epoch):
    assert current_epoch() == 1
    assert warm_up(4) == 0.25


@pytest.mark.parametrize(
    'epoch, factor', [(0, 0.2), (1, 0.4), (3, 0.8), (4, 1), (5, 1), (99, 1)]
)
def test_the_first_epoch_counts_as_one(set_epoch, epoch, factor):
    set_epoch(epoch)
    assert current_epoch() == epoch + 1
    assert warm_up(5) == pytest.approx(factor)


@pytest.mark.parametrize('epoch', [0, 7])
@pytest.mark.parametrize('epochs', [0, 1])
def test_no_warm_up(set_epoch, epoch, epochs):
    set_epoch(epoch)
    assert warm_up(epochs) == 1.0


def test_resume_restores_the_epoch(set_epoch):
    """The hub travels in the checkpoint, a counter in the loss would not."""
    hub = MessageHub.get_current_instance()
    set_epoch(6)
    saved = hub.state_dict()
    set_epoch(0)
    hub.load_state_dict(saved)
    assert current_epoch() == 7


def test_calls_do_not_count(set_epoch):
    set_epoch(1)
    assert [warm_up(4) for _ in range(3)] == [0.5] * 3
