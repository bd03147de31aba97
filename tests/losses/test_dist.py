"""DIST against the vector of the notes, loops and two processes."""

import math

import pytest
import torch
from two_processes import results_of_ranks

from dtkd_mmaction.losses.dist import (
    DISTLoss,
    dist_loss,
    pearson_correlation,
)


def logits(batch=5, classes=4, seed=0, scale=2.0):
    torch.manual_seed(seed)
    return scale * torch.randn(2, batch, classes, dtype=torch.float64)


def correlation(x, y):
    x, y = ([v - sum(z) / len(z) for v in z] for z in (x, y))
    dot = sum(a * b for a, b in zip(x, y))
    return dot / (math.hypot(*x) * math.hypot(*y) + 1e-8)


def softmax(z, tau):
    e = [math.exp(v / tau) for v in z]
    return [v / sum(e) for v in e]


def by_loops(student, teacher, beta, gamma, tau):
    q, p = ([softmax(z, tau) for z in x.tolist()] for x in (student, teacher))
    inter = [correlation(a, b) for a, b in zip(q, p)]
    intra = [correlation(a, b) for a, b in zip(zip(*q), zip(*p))]
    return tau**2 * (
        beta * (1 - sum(inter) / len(inter))
        + gamma * (1 - sum(intra) / len(intra))
    )


@pytest.mark.parametrize('tau', [1.0, 4.0])
@pytest.mark.parametrize('beta, gamma', [(1, 1), (2, 0), (0, 3)])
@pytest.mark.parametrize('batch', [1, 2, 5])
def test_against_loops(tau, beta, gamma, batch):
    data = logits(batch)
    expected = by_loops(*data, beta, gamma, tau)
    value = float(dist_loss(*data, beta, gamma, tau))
    assert value == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_vector_of_the_notes():
    student = torch.tensor([[0.7, 0.2, 0.1]]).log()
    teacher = torch.tensor([[0.4, 0.35, 0.25]]).log()
    for one, other in ((student, teacher), (teacher, student)):
        value = float(dist_loss(one, other, 1.0, 0.0, 1.0))
        assert value == pytest.approx(0.151445, abs=1e-6)


def test_equal_logits_cost_nothing():
    student, _ = logits()
    assert dist_loss(student, student, 1, 1, 1.0).abs() < 1e-6
    assert dist_loss(student, student + 3, 1, 1, 4.0).abs() < 1e-4


def test_one_sample_has_no_intra():
    """Its term is 1 even for equal logits, and pulls nowhere."""
    student, teacher = logits(1)
    student.requires_grad_()
    assert dist_loss(student, student, 0.0, 1.0, 1.0) == 1
    dist_loss(student, teacher, 0.0, 1.0, 1.0).backward()
    assert (student.grad == 0).all()


def test_correlation_does_not_see_offset_and_scale():
    torch.manual_seed(0)
    one, other = torch.rand(2, 5, 4, dtype=torch.float64)
    before = pearson_correlation(one, other, 1)
    scale, offset = torch.rand(2, 5, 1).double() + 0.5
    after = pearson_correlation(scale * one + offset, other, 1)
    assert torch.allclose(before, after, atol=1e-6)
    after = pearson_correlation(one, scale * other + offset, 1)
    assert torch.allclose(before, after, atol=1e-6)


def test_probabilities_correlate_not_logits():
    """Logits times 3 would correlate fully."""
    student, _ = logits()
    assert dist_loss(3 * student, student, 1.0, 0.0, 1.0) > 0.01


def test_epsilon_is_added_to_the_product_of_norms():
    tiny = torch.tensor([[1e-4, 0.0]], dtype=torch.float64)
    # centred +- 5e-5: the product of the norms is 5e-9
    value = float(pearson_correlation(tiny, tiny, 1))
    assert value == pytest.approx(5e-9 / (5e-9 + 1e-8), rel=1e-6)


def test_classes_that_no_sample_shows_still_count():
    student, teacher = logits(classes=4)
    absent = torch.full((5, 4), -200.0, dtype=torch.float64)
    wider = dist_loss(
        torch.cat([student, absent], 1),
        torch.cat([teacher, absent], 1),
        0.0,
        1.0,
        1.0,
    )
    intra = dist_loss(student, teacher, 0.0, 1.0, 1.0)
    assert torch.allclose(wider, (intra + 1) / 2)


def test_gradient():
    student, teacher = logits(3)
    student.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: dist_loss(s, teacher, 1.0, 2.0, 4.0), (student,)
    )


@pytest.mark.parametrize('sure', [0.0, 300.0])
def test_constant_probabilities_stay_finite(sure):
    """A head that starts at zero, and one that is sure of one class."""
    student = torch.zeros(3, 4)
    student[:, 0] = sure
    student.requires_grad_()
    value = dist_loss(student, torch.randn(3, 4), 1.0, 1.0, 1.0)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(student.grad).all()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    student, teacher = logits(scale=20.0).to(dtype)
    student.requires_grad_()
    value = DISTLoss()(student, teacher)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value) and torch.isfinite(student.grad).all()
    assert torch.equal(value, DISTLoss()(student.float(), teacher.float()))


def test_class_weighs_and_spares_the_teacher():
    student, teacher = (z.clone().requires_grad_() for z in logits())
    value = DISTLoss(loss_weight=3.0, beta=0.5, gamma=2.0, tau=4.0)(
        student, teacher
    )
    expected = 3 * dist_loss(student, teacher, 0.5, 2.0, 4.0)
    assert torch.allclose(value, expected)
    value.backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None
    value = DISTLoss()(student, teacher)
    assert torch.allclose(value, 2 * dist_loss(student, teacher, 1, 1, 1.0))


def one_rank(gather, rank, ranks):
    """Loss and gradient of a shared matrix on this rank's part of 6."""
    inputs, teacher = logits(6)
    shared = logits(4, 4, seed=1)[0].requires_grad_()
    part = slice(6 // ranks * rank, 6 // ranks * (rank + 1))
    loss = DISTLoss(gather=gather)
    value = loss(inputs[part] @ shared, teacher[part])
    value.backward()
    return float(value.detach()), shared.grad


def gathered_and_not(rank):
    return {gather: one_rank(gather, rank, 2) for gather in (True, False)}


def test_two_processes_equal_one_on_the_joined_batch(tmp_path):
    ranks = results_of_ranks(gathered_and_not, tmp_path)
    value, gradient = one_rank(True, 0, 1)
    for gather in (True, False):
        losses, gradients = zip(*(result[gather] for result in ranks))
        averaged = sum(gradients) / 2  # as DistributedDataParallel does
        same_loss = all(
            loss == pytest.approx(value, rel=1e-12) for loss in losses
        )
        same_gradient = torch.allclose(averaged, gradient, rtol=1e-9)
        assert same_loss is same_gradient is gather
