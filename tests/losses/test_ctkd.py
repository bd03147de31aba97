"""CTKD: the temperature climbs the loss, by an epoch's share."""

import math

import pytest
import torch
from mmengine.logging import MessageHub

from dtkd_mmaction.losses.ctkd import CTKDLoss, ScaleGradient, gradient_scale
from dtkd_mmaction.losses.kd import kd_loss


@pytest.fixture(autouse=True)
def set_epoch():
    """Sets the epoch, counted from 0, as a runner does."""
    hub = MessageHub.get_current_instance()
    before = hub.pop_info('epoch')
    yield lambda epoch: hub.update_info('epoch', epoch)
    hub.pop_info('epoch')
    if before is not None:
        hub.update_info('epoch', before)


def logits(scale=3.0):
    torch.manual_seed(0)
    return scale * torch.randn(2, 5, 7, dtype=torch.float64)


def tau_of(theta):
    return 1 + 20 / (1 + math.exp(-theta))


def test_first_temperature():
    loss = CTKDLoss()
    loss(*logits())
    assert float(loss.monitors['tau']) == pytest.approx(15.62, abs=0.005)
    assert not loss.monitors['tau'].requires_grad


@pytest.mark.parametrize(
    'epoch, expected', [(1, -0.0245), (5, -0.5), (10, -1), (11, -1), (99, -1)]
)
def test_scale_of_the_notes(epoch, expected):
    assert gradient_scale(epoch, 10) == pytest.approx(expected, abs=5e-5)


def test_scale_falls_from_zero():
    scales = [gradient_scale(epoch, 10) for epoch in range(0, 12)]
    assert scales[0] == 0
    assert scales[:11] == sorted(scales[:11], reverse=True)
    assert gradient_scale(1, 0) == gradient_scale(1, 1) == -1


@pytest.mark.parametrize('theta', [-3.0, 0.0, 1.0, 4.0])
def test_value_is_kd_at_that_temperature(theta):
    student, teacher = logits()
    loss = CTKDLoss(loss_weight=2.0)
    loss.theta.data.fill_(theta)
    assert float(loss(student, teacher).detach()) == pytest.approx(
        2 * float(kd_loss(student, teacher, tau_of(theta))), rel=1e-5
    )


@pytest.mark.parametrize('epoch', [0, 4, 9, 20])
def test_gradient_of_theta_is_reversed_once(set_epoch, epoch):
    """Through the factor tau ** 2 and both softmaxes (by differences)."""
    student, teacher = logits()
    step = 1e-4
    slope = (
        kd_loss(student, teacher, tau_of(1 + step))
        - kd_loss(student, teacher, tau_of(1 - step))
    ) / (2 * step)
    set_epoch(epoch)
    loss = CTKDLoss(loss_weight=1.0)
    loss(student, teacher).backward()
    scale = gradient_scale(epoch + 1, 10)
    assert float(loss.theta.grad) == pytest.approx(
        scale * float(slope), rel=1e-4
    )


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('theta', [-4.0, 1.0])
def test_a_step_of_theta_raises_the_loss(set_epoch, seed, theta):
    torch.manual_seed(seed)
    student, teacher = 3 * torch.randn(2, 5, 7)
    set_epoch(9)
    loss = CTKDLoss()
    loss.theta.data.fill_(theta)
    before = loss(student, teacher)
    before.backward()
    torch.optim.SGD(loss.parameters(), lr=1e-2).step()
    assert loss(student, teacher) > before


def test_scale_zero_is_gradient_zero():
    theta = torch.ones((), requires_grad=True)
    value = ScaleGradient.apply(theta, 0.0)
    kd_loss(*logits(), 1 + 20 * value.sigmoid()).backward()
    assert theta.grad == 0 and value == theta


def test_the_student_is_not_reversed(set_epoch):
    """Its gradient is that of KD at this temperature, in every epoch."""
    student, teacher = logits()
    expected = student.clone().requires_grad_()
    tau = torch.tensor(1 + 20 / (1 + math.exp(-1)))
    kd_loss(expected, teacher, tau).backward()
    for epoch in (0, 20):
        set_epoch(epoch)
        moved = student.clone().requires_grad_()
        CTKDLoss(loss_weight=1.0)(moved, teacher).backward()
        assert torch.allclose(moved.grad, expected.grad, rtol=1e-5)


def test_gradient_never_to_the_teacher():
    student, teacher = (z.clone().requires_grad_() for z in logits())
    CTKDLoss(standardise=True)(student, teacher).backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None


def test_resume_needs_no_counter():
    """Only theta is state; the epoch is the runner's."""
    assert list(CTKDLoss().state_dict()) == ['theta']


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('scale', [1.0, 60.0])
def test_half_precision_is_computed_in_float32(dtype, scale):
    student, teacher = logits(scale).to(dtype)
    student.requires_grad_()
    loss = CTKDLoss()
    value = loss(student, teacher)
    value.backward()
    assert value.dtype == torch.float32 and value.shape == ()
    assert torch.isfinite(value) and torch.isfinite(student.grad).all()
    assert torch.isfinite(loss.theta.grad)
    assert torch.equal(value, loss(student.float(), teacher.float()))
