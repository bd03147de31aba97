"""RKD (Eq. 13) against the vectors of the notes, loops and two processes."""

import math

import pytest
import torch
import torch.utils._pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from two_processes import results_of_ranks

from dtkd_mmaction.losses import RKDLoss, rkd_angle_loss, rkd_distance_loss
from dtkd_mmaction.losses.rkd import PAIRS, PairDistances

FUNCTIONS = [rkd_distance_loss, rkd_angle_loss]
# methods.md B8
TEACHER = torch.tensor([[0.0, 0], [3, 0], [0, 4]], dtype=torch.float64)
STUDENT = torch.tensor([[0.0, 0], [1, 0], [0, 1]], dtype=torch.float64)


def embeddings(batch=6, student=5, teacher=9, seed=0):
    torch.manual_seed(seed)
    return (
        torch.randn(batch, student, dtype=torch.float64),
        torch.randn(batch, teacher, dtype=torch.float64),
    )


# ---------------------------------------------------------------------------
# The equations in plain Python.


def smooth_l1(a, b):
    d = abs(a - b)
    return d * d / 2 if d < 1 else d - 0.5


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def distance_by_loops(student, teacher, pairs):
    every = range(len(student))
    distinct = [(i, j) for i in every for j in range(i)]

    def relative(x):
        x = x.tolist()
        average = mean(math.dist(x[i], x[j]) for i, j in distinct)
        return [[math.dist(a, b) / average for b in x] for a in x]

    s, t = relative(student), relative(teacher)
    if pairs == 'all_entries':
        distinct = [(i, j) for i in every for j in every]
    return mean(smooth_l1(s[i][j], t[i][j]) for i, j in distinct)


def angle_by_loops(student, teacher, pairs):
    def unit(a, b):
        length = math.dist(a, b)
        return [(y - x) / length if length else 0.0 for x, y in zip(a, b)]

    def cosine(x, i, j, k):
        e, f = unit(x[i], x[j]), unit(x[i], x[k])
        return sum(a * b for a, b in zip(e, f))

    every = range(len(student))
    triples = [(i, j, k) for i in every for j in every for k in every]
    if pairs == 'distinct':
        triples = [t for t in triples if len(set(t)) == 3]
    s, t = student.tolist(), teacher.tolist()
    return mean(smooth_l1(cosine(s, *ijk), cosine(t, *ijk)) for ijk in triples)


@pytest.mark.parametrize('pairs', PAIRS)
@pytest.mark.parametrize(
    'function, loops',
    [
        (rkd_distance_loss, distance_by_loops),
        (rkd_angle_loss, angle_by_loops),
    ],
)
@pytest.mark.parametrize('batch', [3, 6])
def test_against_loops(function, loops, pairs, batch):
    student, teacher = embeddings(batch)
    student[0] *= 20  # so that some difference leaves the square part
    expected = loops(student, teacher, pairs)
    value = float(function(student, teacher, pairs))
    assert value == pytest.approx(expected, rel=1e-10)
    value = float(function(student.float(), teacher.float(), pairs))
    assert value == pytest.approx(expected, rel=1e-5)


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


@pytest.mark.parametrize('batch', [2, 3, 7])
def test_official_code_is_a_fraction_of_eq_13(batch):
    student, teacher = embeddings(batch)
    for function, fraction in (
        (rkd_distance_loss, (batch - 1) / batch),
        (rkd_angle_loss, (batch - 1) * (batch - 2) / batch**2),
    ):
        official = function(student, teacher, 'all_entries')
        distinct = function(student, teacher, 'distinct')
        assert torch.allclose(official, fraction * distinct, rtol=1e-10)


# ---------------------------------------------------------------------------
# Invariances, precision, degenerate input.


@pytest.mark.parametrize('function', FUNCTIONS)
def test_moving_turning_and_scaling_changes_nothing(function):
    student, teacher = embeddings(student=4, teacher=4)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))
    before = function(student, teacher)
    for moved in (student + 7, student @ rotation, 2.5 * student):
        assert torch.allclose(function(moved, teacher), before, rtol=1e-9)
        assert torch.allclose(function(teacher, moved), before, rtol=1e-9)
    alike = 2.5 * teacher @ rotation + 7
    assert function(alike, teacher).abs() < 1e-12


@pytest.mark.parametrize('function', FUNCTIONS)
def test_order_of_samples_does_not_matter(function):
    student, teacher = embeddings()
    order = torch.randperm(6)
    assert torch.allclose(
        function(student[order], teacher[order]),
        function(student, teacher),
        rtol=1e-10,
    )
    assert not torch.allclose(
        function(student[order], teacher), function(student, teacher)
    )


@pytest.mark.parametrize('function', FUNCTIONS)
@pytest.mark.parametrize('pairs', PAIRS)
def test_gradient(function, pairs):
    student, teacher = embeddings(4)
    student.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: function(s, teacher, pairs), (student,)
    )


def test_large_mean_keeps_its_digits():
    """Pooled post-ReLU features, 10 +- 0.001: Gram distances lose them."""
    torch.manual_seed(0)
    features = 10 + 0.001 * torch.randn(4, 2048)
    features.requires_grad_()
    exact_features = features.detach().double().requires_grad_()
    exact = torch.pdist(exact_features)
    assert 0.06 < exact.min() and exact.max() < 0.07
    value = PairDistances.apply(features)
    assert torch.allclose(value.double(), exact, rtol=1e-4)
    weights = torch.arange(1.0, 7)
    (value * weights).sum().backward()
    (exact * weights).sum().backward()
    assert torch.allclose(
        features.grad.double(), exact_features.grad, rtol=1e-3, atol=1e-4
    )
    features = features.detach()
    squares = features.square().sum(1)
    gram = squares + squares[:, None] - 2 * features @ features.t()
    rows, columns = torch.triu_indices(4, 4, 1)
    gram = gram.clamp(min=1e-12).sqrt()[rows, columns]
    assert not torch.allclose(gram.double(), exact, rtol=0.5)


def test_values_are_small_in_many_dimensions():
    """Why the weight is 25: unrelated embeddings cost about 1 / (2 D)."""
    for width in (128, 2048):
        student, teacher = embeddings(32, width, width)
        value = float(rkd_distance_loss(student, teacher))
        assert value == pytest.approx(0.5 / width, rel=0.3)


@pytest.mark.parametrize('function', FUNCTIONS)
@pytest.mark.parametrize('pairs', PAIRS)
@pytest.mark.parametrize('batch', [1, 2, 4])
@pytest.mark.parametrize('coincide', ['all', 'two', 'teacher'])
def test_coinciding_samples(function, pairs, batch, coincide):
    """Small batches and points at distance zero: finite, gradient too."""
    student, teacher = (x.float() for x in embeddings(batch))
    if coincide == 'all':
        student = torch.ones_like(student)
    elif coincide == 'teacher':
        teacher = torch.ones_like(teacher)
    else:
        student[-1] = student[0]
    student.requires_grad_()
    value = function(student, teacher, pairs)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(student.grad).all()
    if batch == 1:
        assert value == 0
    if coincide == 'all':  # nowhere to go
        assert (student.grad == 0).all()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('batch', [1, 2, 64])
def test_half_precision_is_computed_in_float32(dtype, batch):
    """The sum of the embeddings is beyond float16, no distance is."""
    student, teacher = embeddings(batch, 512, 64)
    student, teacher = (student + 10).to(dtype), teacher.to(dtype)
    student.requires_grad_()
    loss = RKDLoss(angle_weight=2.0)
    value = loss(student, teacher)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value) and torch.isfinite(student.grad).all()
    assert torch.equal(
        value.detach(), loss(student.detach().float(), teacher.float())
    )


def test_strided_embeddings():
    student, teacher = embeddings()
    assert torch.equal(
        RKDLoss()(student.t().contiguous().t(), teacher),
        RKDLoss()(student, teacher),
    )


# ---------------------------------------------------------------------------
# Memory.


@pytest.mark.parametrize('pairs', PAIRS)
@pytest.mark.parametrize('vertices', [1, 2, 5])
def test_angles_in_groups_are_those_at_once(pairs, vertices):
    student, teacher = embeddings(7, 5, 9)
    student.requires_grad_()
    at_once = rkd_angle_loss(student, teacher, pairs)
    (expected,) = torch.autograd.grad(at_once, student)
    elements = vertices * 7 * 9
    grouped = rkd_angle_loss(student, teacher, pairs, elements)
    (gradient,) = torch.autograd.grad(grouped, student)
    assert torch.allclose(grouped, at_once, rtol=1e-12)
    assert torch.allclose(gradient, expected, rtol=1e-10, atol=1e-14)


def largest_tensors(function, *arguments):
    """Elements of the largest result of any operation, backward included."""

    class Largest(TorchDispatchMode):
        found = 0

        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            result = op(*args, **(kwargs or {}))
            for tensor in pytree.tree_leaves(result):
                if isinstance(tensor, torch.Tensor):
                    self.found = max(self.found, tensor.numel())
            return result

    with Largest() as largest:
        function(*arguments).backward()
    return largest.found


def test_no_tensor_has_all_differences():
    """(B, B, D) is what the relations of a large global batch must not take.

    The kernel of PyTorch's own backward pass takes it inside, on a GPU.
    """
    batch, width = 48, 256
    student = torch.randn(batch, width, requires_grad=True)
    teacher = torch.randn(batch, width)
    assert largest_tensors(rkd_distance_loss, student, teacher) <= (
        batch * width
    )
    limit = 4 * batch * width
    assert largest_tensors(
        rkd_angle_loss, student, teacher, 'distinct', limit
    ) <= max(limit, 4 * batch * batch)


# ---------------------------------------------------------------------------
# The class.


def test_gradient_only_to_the_student():
    student, teacher = (x.requires_grad_() for x in embeddings())
    RKDLoss(loss_weight=25.0, angle_weight=2.0)(student, teacher).backward()
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
    # Eq. 13 alone by default
    assert torch.equal(
        RKDLoss()(STUDENT, TEACHER), rkd_distance_loss(STUDENT, TEACHER)
    )
    assert torch.equal(
        RKDLoss(pairs='all_entries')(STUDENT, TEACHER),
        rkd_distance_loss(STUDENT, TEACHER, 'all_entries'),
    )


def test_gather_needs_no_process_group_of_its_own():
    assert torch.equal(
        RKDLoss(gather=True)(STUDENT, TEACHER), RKDLoss()(STUDENT, TEACHER)
    )


@pytest.mark.parametrize('build', [RKDLoss, *FUNCTIONS])
def test_unknown_pairs(build):
    embedded = () if build is RKDLoss else (STUDENT, TEACHER)
    with pytest.raises(ValueError, match="pairs='some'.*'distinct'"):
        build(*embedded, pairs='some')


# ---------------------------------------------------------------------------
# Two processes.


def one_rank(gather, rank, ranks):
    """Loss and gradient of a shared matrix on this rank's part of 6."""
    inputs, teacher = embeddings(6, 5, 9)
    shared = embeddings(5, 4, seed=1)[0].requires_grad_()
    part = slice(6 // ranks * rank, 6 // ranks * (rank + 1))
    # transposed, so that the gathered rows are not contiguous
    student = (shared.t() @ inputs[part].t()).t()
    loss = RKDLoss(loss_weight=25.0, angle_weight=2.0, gather=gather)
    value = loss(student, teacher[part])
    value.backward()
    return float(value.detach()), shared.grad


def gathered_and_not(rank):
    return {gather: one_rank(gather, rank, 2) for gather in (True, False)}


def test_two_processes_equal_one_on_the_joined_batch(tmp_path):
    ranks = results_of_ranks(gathered_and_not, tmp_path)
    value, gradient = one_rank(False, 0, 1)
    for gather in (True, False):
        losses, gradients = zip(*(result[gather] for result in ranks))
        averaged = sum(gradients) / 2  # as DistributedDataParallel does
        same_loss = all(
            loss == pytest.approx(value, rel=1e-12) for loss in losses
        )
        same_gradient = torch.allclose(averaged, gradient, rtol=1e-10)
        assert same_loss is same_gradient is gather
