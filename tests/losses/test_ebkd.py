import numpy as np
import pytest
import torch
from teacher_logits import kd_per_sample, random_logits, softmax

from dtkd_mmaction.losses import EBKDLoss, ebkd_weights


def reference(teachers):
    """Weights sample by sample; they sum to K - 1."""
    rows = []
    for b in range(len(next(iter(teachers.values())))):
        entropies = []
        for teacher in teachers.values():
            p = softmax(teacher[b].numpy())
            entropies.append(-np.sum(p * np.log(p)))
        rows.append([1 - h / sum(entropies) for h in entropies])
    return np.array(rows)


@pytest.mark.parametrize('count', [2, 3, 4])
def test_against_the_equation(count):
    student, teachers = random_logits(count)
    weights = ebkd_weights(list(teachers.values()))
    assert np.allclose(weights.numpy(), reference(teachers), rtol=1e-10)
    assert np.allclose(weights.sum(1).numpy(), count - 1)
    value = EBKDLoss(loss_weight=2.0, tau=3.0)(student, teachers)
    terms = reference(teachers) * kd_per_sample(student, teachers, 3.0)
    assert float(value) == pytest.approx(
        2 * terms.sum() / (6 * count), rel=1e-10
    )


def test_prefers_the_sure_teacher_whether_right_or_wrong():
    sure, unsure = torch.eye(4) * 9, torch.eye(4)
    for wrong in (sure, sure.flip(0)):
        weights = ebkd_weights([wrong, unsure])
        assert (weights[:, 0] > 0.9).all()


def test_certain_teachers_share_equally():
    certain = torch.eye(4) * 1e4
    weights = ebkd_weights([certain, certain.flip(0)])
    assert torch.allclose(weights, torch.full((4, 2), 0.5))
