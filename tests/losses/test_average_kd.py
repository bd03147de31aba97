import numpy as np
import pytest
import torch
from teacher_logits import kd_per_sample, random_logits, softmax

from dtkd_mmaction.losses import AverageKDLoss, DATWLoss


@pytest.mark.parametrize('count', [1, 2, 3])
def test_mean_of_the_losses(count):
    student, teachers = random_logits(count)
    value = AverageKDLoss(loss_weight=2.0, tau=3.0)(student, teachers)
    expected = 2 * kd_per_sample(student, teachers, 3.0).mean()
    assert float(value) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize('count', [1, 2, 3])
@pytest.mark.parametrize('fuse', ['logit', 'prob'])
def test_loss_to_the_mean(count, fuse):
    tau = 3.0
    student, teachers = random_logits(count)
    logits = np.stack([t.numpy() for t in teachers.values()])
    if fuse == 'logit':
        target = softmax(logits.mean(0), tau)
    else:
        target = softmax(logits, tau).mean(0)
    divergence = target * np.log(target / softmax(student.numpy(), tau))
    value = AverageKDLoss(tau=tau, fuse=fuse)(student, teachers)
    expected = tau**2 * divergence.sum(1).mean()
    assert float(value) == pytest.approx(expected, rel=1e-10)


def test_mean_logits_are_uniform_datw():
    student, teachers = random_logits(3)
    value = AverageKDLoss(fuse='logit')(student, teachers)
    expected = DATWLoss(score='uniform')(student, teachers)
    assert float(value) == pytest.approx(float(expected), rel=1e-9)


def test_gradients_of_loss_and_prob_are_equal():
    gradients = {}
    for fuse in ('loss', 'prob', 'logit'):
        student, teachers = random_logits(2)
        student.requires_grad_()
        AverageKDLoss(fuse=fuse)(student, teachers).backward()
        gradients[fuse] = student.grad
    assert torch.allclose(gradients['loss'], gradients['prob'], atol=1e-12)
    assert not torch.allclose(gradients['loss'], gradients['logit'], atol=1e-3)


def test_unknown_fusion():
    with pytest.raises(ValueError, match="AverageKDLoss.fuse='mean'"):
        AverageKDLoss(fuse='mean')
