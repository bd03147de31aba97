"""Distillation of classes that do not exclude each other."""

import pytest
import torch
from torch.distributions import Bernoulli, kl_divergence

from dtkd_mmaction.losses import SigmoidKDLoss, kd_loss, sigmoid_kd_loss


def logits(*shape, scale=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator)


@pytest.mark.parametrize('tau', [1.0, 4.0])
def test_is_the_mean_of_binary_divergences(tau):
    student, teacher = logits(5, 7), logits(5, 7, seed=1)
    expected = kl_divergence(
        Bernoulli(logits=teacher / tau), Bernoulli(logits=student / tau)
    ).mean()
    found = sigmoid_kd_loss(student, teacher, tau)
    assert torch.allclose(found, tau**2 * expected, rtol=1e-5)


def test_is_zero_for_equal_logits_only():
    teacher = logits(4, 6)
    assert sigmoid_kd_loss(teacher, teacher, 2.0) == 0
    # A softmax does not see a common offset; single probabilities do.
    assert kd_loss(teacher - 3, teacher, 2.0).abs() < 1e-5
    assert sigmoid_kd_loss(teacher - 3, teacher, 2.0) > 0.1


def test_probabilities_that_softmax_cannot_tell_apart():
    """Teacher .98 .98 .02 .02, student .12 .12 .00 .00: one offset apart."""
    teacher = torch.tensor([[0.98, 0.98, 0.02, 0.02]]).logit()
    offset = torch.tensor(0.98).logit() - torch.tensor(0.12).logit()
    student = (teacher - offset).requires_grad_()
    assert kd_loss(student, teacher, 1.0).abs() < 1e-5
    sigmoid_kd_loss(student, teacher, 1.0).backward()
    # the gradient of a Bernoulli KL in its logit: q - p
    expected = (student.sigmoid() - teacher.sigmoid()) / 4
    assert torch.allclose(student.grad, expected, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_and_large_logits(dtype):
    student = torch.tensor([[60.0, -60.0]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[-60.0, 60.0]], dtype=dtype)
    loss = SigmoidKDLoss(tau=1.0)(student, teacher)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(60, rel=1e-3)
    loss.backward()
    assert student.grad.isfinite().all()


def test_teachers_get_no_gradient():
    student, teacher = logits(3, 4), logits(3, 4, seed=1).requires_grad_()
    SigmoidKDLoss(2.0)(student.requires_grad_(), teacher).backward()
    assert teacher.grad is None and student.grad is not None


@pytest.mark.parametrize('option', [dict(tau=0), dict(loss_weight=-1)])
def test_options_out_of_range(option):
    with pytest.raises(ValueError, match=rf'SigmoidKDLoss\({[*option][0]}='):
        SigmoidKDLoss(**option)
