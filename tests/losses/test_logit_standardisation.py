"""Logit standardisation: the function, and the option of losses."""

import math

import pytest
import torch

from dtkd_mmaction.losses.ctkd import CTKDLoss
from dtkd_mmaction.losses.dkd import DKDLoss
from dtkd_mmaction.losses.kd import KDLoss, kd_loss
from dtkd_mmaction.losses.logit_standardisation import standardise_logits


def logits(count=2, batch=4, classes=6):
    torch.manual_seed(0)
    return 3 * torch.randn(count, batch, classes, dtype=torch.float64) + 2


def by_loops(z):
    mean = sum(z) / len(z)
    variance = sum((v - mean) ** 2 for v in z) / (len(z) - 1)
    return [(v - mean) / (math.sqrt(variance) + 1e-7) for v in z]


def test_vector_of_the_notes():
    value = standardise_logits(torch.tensor([[0.0, 1, 2]]))
    assert torch.allclose(value, torch.tensor([[-1.0, 0, 1]]))


def test_against_loops():
    z = logits(1)[0]
    expected = torch.tensor([by_loops(row) for row in z.tolist()])
    assert torch.allclose(standardise_logits(z).float(), expected)


def test_the_deviation_is_unbiased():
    value = standardise_logits(logits())
    assert torch.allclose(value.mean(-1), torch.zeros(2, 4).double())
    assert torch.allclose(value.std(-1), torch.ones(2, 4).double())
    assert not torch.allclose(
        value.std(-1, unbiased=False), torch.ones(2, 4).double()
    )


def test_any_number_of_dimensions():
    z = logits()
    assert torch.equal(standardise_logits(z)[1], standardise_logits(z[1]))


def test_gradient_goes_through_mean_and_deviation():
    z = logits(1)[0].requires_grad_()
    assert torch.autograd.gradcheck(standardise_logits, (z,))
    target = torch.randn_like(z)
    (standardise_logits(z) * target).sum().backward()
    # neither an offset nor a scale is asked for
    assert z.grad.sum(1).abs().max() < 1e-10
    assert (z.grad * z).sum(1).abs().max() < 1e-6


def test_constant_logits_become_zeros():
    """A new head that starts at zero."""
    z = torch.zeros(2, 5, requires_grad=True)
    value = KDLoss(standardise=True)(z, torch.randn(2, 5))
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(z.grad).all()
    assert (standardise_logits(z) == 0).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    z = logits(1)[0].to(dtype)
    value = standardise_logits(z)
    assert value.dtype == torch.float32
    assert torch.equal(value, standardise_logits(z.float()))


@pytest.mark.parametrize('loss_class', [KDLoss, DKDLoss, CTKDLoss])
def test_offset_and_scale_change_nothing(loss_class):
    student, teacher = logits()
    labels = () if loss_class is not DKDLoss else (torch.tensor([0, 1, 2, 5]),)
    loss = loss_class(standardise=True)
    value = loss(student, teacher, *labels)
    moved = loss(3.7 * student + 5, 0.2 * teacher - 9, *labels)
    assert torch.allclose(value, moved, rtol=1e-6)
    assert not torch.allclose(value, loss_class()(student, teacher, *labels))


def test_kd_of_standardised_logits():
    student, teacher = logits()
    expected = 9 * kd_loss(
        standardise_logits(student), standardise_logits(teacher), 2.0
    )
    value = KDLoss(loss_weight=9.0, tau=2.0, standardise=True)(
        student, teacher
    )
    assert torch.equal(value, expected)


def test_gradient_only_to_the_student():
    student, teacher = (z.clone().requires_grad_() for z in logits())
    KDLoss(standardise=True)(student, teacher).backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None
