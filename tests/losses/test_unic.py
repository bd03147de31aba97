import numpy as np
import pytest
import torch
from teacher_logits import kd_per_sample, random_logits

from dtkd_mmaction.losses import UNICDropLoss, unic_weights


@pytest.mark.parametrize('count', [2, 3])
@pytest.mark.parametrize('probability', [0.0, 0.5, 1.0])
def test_against_a_loop(count, probability):
    student, teachers = random_logits(count)
    losses = kd_per_sample(student, teachers, 3.0)
    torch.manual_seed(5)
    draws = torch.rand(6, count, dtype=torch.float64).numpy()
    kept = np.ones_like(losses)
    for b in range(6):
        for k in range(count):
            if k != losses[b].argmax() and draws[b, k] < probability:
                kept[b, k] = 0
    torch.manual_seed(5)
    loss = UNICDropLoss(loss_weight=2.0, tau=3.0, drop_probability=probability)
    value = loss(student, teachers)
    expected = 2 * (kept * losses).sum() / kept.sum()
    assert float(value) == pytest.approx(expected, rel=1e-10)
    shares = kept.sum(0) / kept.sum()
    for k in range(count):
        assert float(loss.monitors[f'unic/t{k}']) == pytest.approx(shares[k])


def test_the_largest_loss_always_counts():
    divergences = torch.rand(200, 3)
    for probability in (0.5, 1.0):
        weights = unic_weights(divergences, probability)
        rows = torch.arange(200)
        assert (weights[rows, divergences.argmax(1)] > 0).all()


def test_drops_as_often_as_told():
    torch.manual_seed(0)
    divergences = torch.rand(20000, 3)
    weights = unic_weights(divergences, 0.3)
    others = divergences < divergences.amax(dim=1, keepdim=True)
    dropped = (weights[others] == 0).float().mean()
    assert float(dropped) == pytest.approx(0.3, abs=0.01)


def test_range_of_the_probability():
    with pytest.raises(ValueError, match='UNICDropLoss.drop_probability'):
        UNICDropLoss(drop_probability=1.5)
