import math

import pytest
import torch

from dtkd_mmaction.losses import RKDLoss, rkd_angle_loss, rkd_distance_loss
from dtkd_mmaction.losses.rkd import pairwise_distances

# methods.md B8
TEACHER = torch.tensor([[0.0, 0], [3, 0], [0, 4]], dtype=torch.float64)
STUDENT = torch.tensor([[0.0, 0], [1, 0], [0, 1]], dtype=torch.float64)


@pytest.mark.parametrize(
    'function, pairs, expected',
    [
        (rkd_distance_loss, 'distinct', 0.00522187),
        (rkd_distance_loss, 'all_entries', 0.00348125),
        (rkd_angle_loss, 'distinct', 0.00335017),
        (rkd_angle_loss, 'all_entries', 0.000744482),
    ],
)
def test_vectors_of_the_notes(function, pairs, expected):
    value = float(function(STUDENT, TEACHER, pairs))
    assert value == pytest.approx(expected, rel=1e-5)


def smooth_l1(a, b):
    d = abs(a - b)
    return d * d / 2 if d < 1 else d - 0.5


def test_eq_13_by_loops():
    torch.manual_seed(0)
    student = torch.randn(6, 5, dtype=torch.float64)
    teacher = torch.randn(6, 9, dtype=torch.float64)
    pairs = [(i, j) for i in range(6) for j in range(i)]

    def relative(x):
        d = [math.dist(x[i].tolist(), x[j].tolist()) for i, j in pairs]
        return [v * len(d) / sum(d) for v in d]

    expected = sum(map(smooth_l1, relative(student), relative(teacher))) / len(
        pairs
    )
    value = float(rkd_distance_loss(student, teacher))
    assert value == pytest.approx(expected, rel=1e-10)


def test_angles_by_loops():
    torch.manual_seed(0)
    student = torch.randn(5, 4, dtype=torch.float64)
    teacher = torch.randn(5, 7, dtype=torch.float64)

    def angle(x, i, j, k):
        a, b = x[j] - x[i], x[k] - x[i]
        return float(a @ b / a.norm() / b.norm())

    triples = [
        (i, j, k)
        for i in range(5)
        for j in range(5)
        for k in range(5)
        if len({i, j, k}) == 3
    ]
    expected = sum(
        smooth_l1(angle(student, *t), angle(teacher, *t)) for t in triples
    ) / len(triples)
    value = float(rkd_angle_loss(student, teacher))
    assert value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('function', [rkd_distance_loss, rkd_angle_loss])
def test_invariant_to_moving_turning_and_scaling(function):
    torch.manual_seed(0)
    teacher = torch.randn(6, 4, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))
    student = 2.5 * teacher @ rotation + 7
    assert function(student, teacher).abs() < 1e-12


def test_large_mean_keeps_its_digits():
    """Pooled post-ReLU features: 10 +- 0.001, which Gram distances lose."""
    torch.manual_seed(0)
    features = 10 + 0.001 * torch.randn(4, 2048)
    exact = pairwise_distances(features.double())
    off_diagonal = ~torch.eye(4, dtype=torch.bool)
    assert torch.allclose(
        pairwise_distances(features)[off_diagonal].double(),
        exact[off_diagonal],
        rtol=1e-4,
    )


@pytest.mark.parametrize('function', [rkd_distance_loss, rkd_angle_loss])
@pytest.mark.parametrize('batch', [1, 2, 4])
def test_degenerate_batches_are_finite_with_finite_gradient(function, batch):
    student = torch.ones(batch, 3, requires_grad=True)  # all coincide
    value = function(student, torch.randn(batch, 5))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(student.grad).all()
    if batch == 1:
        assert value == 0


def test_half_precision_and_gradient_only_to_the_student():
    student = torch.randn(4, 6, requires_grad=True)
    teacher = torch.randn(4, 8, requires_grad=True)
    loss = RKDLoss(loss_weight=25.0, angle_weight=2.0)(
        student.bfloat16(), teacher.half()
    )
    assert loss.dtype == torch.float32
    loss.backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None


def test_class_sums_its_terms():
    value = RKDLoss(loss_weight=3.0, distance_weight=2.0, angle_weight=5.0)(
        STUDENT, TEACHER
    )
    expected = 3 * (
        2 * rkd_distance_loss(STUDENT, TEACHER)
        + 5 * rkd_angle_loss(STUDENT, TEACHER)
    )
    assert torch.allclose(value, expected)
    assert torch.allclose(
        RKDLoss()(STUDENT, TEACHER), rkd_distance_loss(STUDENT, TEACHER)
    )


def test_unknown_pairs():
    with pytest.raises(ValueError, match="pairs='some'.*'distinct'"):
        RKDLoss(pairs='some')
