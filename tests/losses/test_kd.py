import math

import pytest
import torch

from dtkd_mmaction.losses import KDLoss, kd_loss


def by_loops(student, teacher, tau):
    """Eq. 1, the mean over the batch, in plain Python."""
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist()):
        p, q = (
            [math.exp(v / tau) / sum(math.exp(w / tau) for w in z) for v in z]
            for z in (t, s)
        )
        total += sum(a * math.log(a / b) for a, b in zip(p, q))
    return tau**2 * total / len(student)


@pytest.mark.parametrize(
    'tau, expected', [(1, 0.130812), (2, 0.145363), (1e4, 0.150869)]
)
def test_vectors_of_the_notes(tau, expected):
    teacher = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)
    student = torch.zeros(1, 2, dtype=torch.float64)
    value = float(kd_loss(student, teacher, tau))
    assert value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('tau', [1.0, 3.0, 4.0])
def test_against_the_equation(tau):
    torch.manual_seed(0)
    student, teacher = 3 * torch.randn(2, 5, 7, dtype=torch.float64)
    expected = by_loops(student, teacher, tau)
    value = float(kd_loss(student, teacher, tau))
    assert value == pytest.approx(expected, rel=1e-10)
    value = float(kd_loss(student.float(), teacher.float(), tau))
    assert value == pytest.approx(expected, rel=1e-5)


def test_great_temperature_compares_centred_logits():
    """tau to infinity: sum of squared centred differences / (2 N)."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 1, 6, dtype=torch.float64)
    difference = teacher - student
    difference = difference - difference.mean()
    expected = float(difference.square().sum() / 12)
    assert float(kd_loss(student, teacher, 1e5)) == pytest.approx(
        expected, rel=1e-4
    )


def test_equal_or_shifted_logits_cost_nothing():
    torch.manual_seed(0)
    logits = torch.randn(4, 6)
    assert kd_loss(logits, logits, 4.0).abs() < 1e-6
    shifted = logits + torch.randn(4, 1)
    assert kd_loss(logits, shifted, 4.0).abs() < 1e-5


def test_class_order_does_not_matter():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 4, 6, dtype=torch.float64)
    order = torch.randperm(6)
    assert torch.allclose(
        kd_loss(student, teacher, 2.0),
        kd_loss(student[:, order], teacher[:, order], 2.0),
        rtol=1e-12,
    )


def test_direction_is_teacher_to_student():
    torch.manual_seed(0)
    one, other = torch.randn(2, 4, 6)
    assert not torch.isclose(kd_loss(one, other, 1.0), kd_loss(other, one, 1))


def test_confident_logits_do_not_underflow():
    """The log of a softmax would be log 0; log_softmax is not."""
    student = torch.tensor([[300.0, 0.0]], requires_grad=True)
    value = kd_loss(student, torch.tensor([[0.0, 300.0]]), 1.0)
    value.backward()
    assert float(value.detach()) == pytest.approx(300.0)
    assert torch.isfinite(student.grad).all()


def test_gradient():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 5, dtype=torch.float64)
    student.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: kd_loss(s, teacher, 4.0), (student,)
    )


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    torch.manual_seed(0)
    student, teacher = (20 * torch.randn(2, 4, 5)).to(dtype)
    value = kd_loss(student, teacher, 1.0)
    assert value.dtype == torch.float32
    expected = by_loops(student.float(), teacher.float(), 1.0)
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_strided_logits():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 7, 5).transpose(1, 2)
    assert torch.equal(
        kd_loss(student, teacher, 4.0),
        kd_loss(student.contiguous(), teacher.contiguous(), 4.0),
    )


def test_class_weighs_and_spares_the_teacher():
    torch.manual_seed(0)
    student = torch.randn(3, 5, requires_grad=True)
    teacher = torch.randn(3, 5, requires_grad=True)
    loss = KDLoss(loss_weight=2.0, tau=3.0)(student, teacher)
    assert torch.allclose(loss, 2 * kd_loss(student, teacher, 3.0))
    loss.backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None
