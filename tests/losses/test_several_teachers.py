"""What every loss over several teachers promises."""

import numpy as np
import pytest
import torch
from teacher_logits import kd_per_sample, random_logits

from dtkd_mmaction.losses import (
    AEKDLoss,
    AverageKDLoss,
    CAMKDLoss,
    DATWLoss,
    EBKDLoss,
    UNICDropLoss,
    kd_loss,
    weighted_kd_loss,
)
from dtkd_mmaction.losses.several_teachers import (
    apply_trust,
    share_out,
    teacher_divergences,
)

LOSSES = {
    'datw': DATWLoss,
    'average': AverageKDLoss,
    'ebkd': EBKDLoss,
    'camkd': CAMKDLoss,
    'aekd': AEKDLoss,
    'unic': UNICDropLoss,
}
every_loss = pytest.mark.parametrize('name', LOSSES)
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


def call(loss, student, teachers, **extra):
    """DATW alone does not take labels."""
    if not isinstance(loss, DATWLoss):
        extra.setdefault('labels', LABELS)
    torch.manual_seed(0)
    return loss(student, teachers, **extra)


def weights_of(loss, name):
    """The monitored mean weight of every teacher, without the prefix."""
    return {
        key.split('/')[1]: float(value)
        for key, value in loss.monitors.items()
        if key.startswith(f'{name}/')
    }


@pytest.mark.parametrize('tau', [1.0, 4.0])
@pytest.mark.parametrize('count', [1, 2, 3])
def test_divergences_and_their_weighted_sum(count, tau):
    student, teachers = random_logits(count)
    expected = kd_per_sample(student, teachers, tau)
    values = teacher_divergences(student, list(teachers.values()), tau)
    assert np.allclose(tau**2 * values.numpy(), expected, rtol=1e-10)
    weights = torch.rand(6, count, dtype=torch.float64)
    value = weighted_kd_loss(student, list(teachers.values()), weights, tau)
    by_hand = (weights.numpy() * expected).sum() / 6
    assert float(value) == pytest.approx(by_hand, rel=1e-10)


@every_loss
@pytest.mark.parametrize('count', [1, 2, 3, 5])
def test_weights_are_between_0_and_1(name, count):
    for seed in range(3):
        student, teachers = random_logits(count, scale=10.0, seed=seed)
        loss = LOSSES[name]()
        assert torch.isfinite(call(loss, student, teachers))
        weights = weights_of(loss, name)
        assert list(weights) == list(teachers)
        assert all(0 <= w <= 1 + 1e-9 for w in weights.values())


@every_loss
@pytest.mark.parametrize('count', [2, 3])
def test_equal_teachers_have_equal_weights(name, count):
    student, teachers = random_logits(1)
    teachers = {f't{k}': teachers['t0'].clone() for k in range(count)}
    loss = LOSSES[name]()
    call(loss, student, teachers)
    weights = list(weights_of(loss, name).values())
    assert weights == pytest.approx([weights[0]] * count, rel=1e-6)


@every_loss
def test_one_teacher_is_plain_kd(name):
    student, teachers = random_logits(1)
    loss = LOSSES[name](loss_weight=3.0, tau=2.0)
    value = call(loss, student, teachers)
    expected = 3 * kd_loss(student, teachers['t0'], 2.0)
    assert float(value) == pytest.approx(float(expected), rel=1e-9)


# Dropping is random: the same draws meet other teachers.
@pytest.mark.parametrize('name', [n for n in LOSSES if n != 'unic'])
@pytest.mark.parametrize('order', [(1, 0), (2, 0, 1), (1, 2, 0)])
def test_permuted_teachers_have_permuted_weights(name, order):
    student, teachers = random_logits(len(order))
    permuted = {f't{k}': teachers[f't{k}'] for k in order}
    loss = LOSSES[name]()
    value = call(loss, student, teachers)
    weights = weights_of(loss, name)
    assert float(call(loss, student, permuted)) == pytest.approx(
        float(value), rel=1e-6
    )
    assert weights_of(loss, name) == pytest.approx(weights, rel=1e-6)


@every_loss
def test_the_gradient_reaches_the_student_alone(name):
    student, teachers = random_logits(3)
    student.requires_grad_()
    for teacher in teachers.values():
        teacher.requires_grad_()
    call(LOSSES[name](), student, teachers).backward()
    assert student.grad.abs().sum() > 0
    assert all(t.grad is None for t in teachers.values())


@pytest.mark.parametrize('name', [n for n in LOSSES if n != 'datw'])
def test_weights_are_constants_for_the_gradient(name):
    """The gradient is that of the loss with the weights held still."""
    student, teachers = random_logits(3)
    student.requires_grad_()
    loss = LOSSES[name]()
    call(loss, student, teachers).backward()
    torch.manual_seed(0)
    logits = list(teachers.values())
    weights = loss.weigh(student, logits, LABELS).detach()
    again = student.detach().clone().requires_grad_()
    loss.compare(again, logits, weights).backward()
    assert torch.allclose(student.grad, again.grad, atol=1e-12)


@every_loss
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(name, dtype):
    student, teachers = random_logits(3)
    student = student.to(dtype)
    teachers = {k: t.to(dtype) for k, t in teachers.items()}
    value = call(LOSSES[name](), student, teachers)
    exact = call(
        LOSSES[name](),
        student.double(),
        {k: t.double() for k, t in teachers.items()},
    )
    assert value.dtype == torch.float32
    # The same draws in both types, so dropping agrees as well.
    if name != 'unic':
        assert float(value) == pytest.approx(float(exact), rel=1e-4)


@every_loss
def test_large_logits_stay_finite(name):
    student, teachers = random_logits(3, scale=1e3)
    student = student.float().requires_grad_()
    teachers = {k: t.float() for k, t in teachers.items()}
    value = call(LOSSES[name](), student, teachers)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(student.grad).all()


@every_loss
def test_a_student_that_follows_all_teachers(name):
    student, _ = random_logits(0)
    teachers = dict(vit=student.clone(), cnn=student.clone())
    loss = LOSSES[name]()
    student.requires_grad_()
    value = call(loss, student, teachers)
    value.backward()
    assert float(value.detach()) == pytest.approx(0, abs=1e-9)
    weights = list(weights_of(loss, name).values())
    assert weights == pytest.approx([0.5, 0.5])


@every_loss
def test_trust_moves_weight_to_the_other_teachers(name):
    student, teachers = random_logits(2)
    loss = LOSSES[name]()
    call(loss, student, teachers)
    before = weights_of(loss, name)
    call(loss, student, teachers, trust=torch.tensor([1.0, 0.0]).double())
    after = weights_of(loss, name)
    assert after['t1'] == pytest.approx(0, abs=1e-4)
    assert after['t0'] == pytest.approx(sum(before.values()), rel=1e-4)
    call(loss, student, teachers, trust=torch.ones(2).double())
    assert weights_of(loss, name) == pytest.approx(before)


def test_trust_in_nobody_changes_no_weights():
    weights = torch.tensor([[0.3, 0.7], [0.5, 0.5]])
    assert torch.equal(apply_trust(weights, torch.zeros(2)), weights)


def test_share_out():
    scores = torch.tensor([[0.2, 0.3, 0.5]])
    expected = torch.tensor([[0.4, 0.35, 0.25]])
    assert torch.allclose(share_out(scores), expected)
    assert torch.equal(share_out(torch.ones(2, 1)), torch.ones(2, 1))


@pytest.mark.parametrize('name', [n for n in LOSSES if n != 'datw'])
def test_options_out_of_range(name):
    for options in (dict(tau=0), dict(loss_weight=-1.0)):
        with pytest.raises(ValueError, match=LOSSES[name].__name__):
            LOSSES[name](**options)
