import math

import pytest
import torch

from dtkd_mmaction.losses import KDLoss, kd_loss


@pytest.mark.parametrize(
    'tau, expected', [(1, 0.130812), (2, 0.145363), (1e3, 0.150869)]
)
def test_vectors_of_the_notes(tau, expected):
    teacher = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)
    student = torch.zeros(1, 2, dtype=torch.float64)
    value = float(kd_loss(student, teacher, tau))
    assert value == pytest.approx(expected, abs=1e-4 if tau > 10 else 1e-6)


def test_against_the_equation():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 5, 7, dtype=torch.float64)
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist()):
        p, q = (
            [math.exp(v / 3) / sum(math.exp(w / 3) for w in z) for v in z]
            for z in (t, s)
        )
        total += sum(a * math.log(a / b) for a, b in zip(p, q))
    assert float(kd_loss(student, teacher, 3.0)) == pytest.approx(
        9 * total / 5, rel=1e-10
    )


def test_equal_or_shifted_logits_cost_nothing():
    logits = torch.randn(4, 6)
    assert kd_loss(logits, logits, 4.0).abs() < 1e-6
    shifted = logits + torch.randn(4, 1)
    assert kd_loss(logits, shifted, 4.0).abs() < 1e-5


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    value = kd_loss(torch.randn(2, 5).to(dtype), torch.zeros(2, 5), 1.0)
    assert value.dtype == torch.float32


def test_class_weighs_and_spares_the_teacher():
    student, teacher = torch.randn(2, 3, 5, requires_grad=True).unbind()
    leaf = torch.randn(3, 5, requires_grad=True)
    loss = KDLoss(loss_weight=2.0, tau=3.0)(student, leaf)
    assert torch.allclose(loss, 2 * kd_loss(student, leaf, 3.0))
    loss.backward()
    assert leaf.grad is None
