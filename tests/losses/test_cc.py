"""CC: both forms against the vectors of the notes and plain loops."""

import math

import pytest
import torch
from two_processes import results_of_ranks

from dtkd_mmaction.losses.cc import (
    FORMS,
    CCLoss,
    cc_loss,
    cc_neighbour_loss,
    correlation_matrix,
)


def embeddings(batch=5, student=4, teacher=6, seed=0):
    torch.manual_seed(seed)
    return (
        torch.randn(batch, student, dtype=torch.float64),
        torch.randn(batch, teacher, dtype=torch.float64),
    )


def build(student=4, teacher=6, **options):
    torch.manual_seed(1)
    return CCLoss(
        student_width=student,
        teacher_width=teacher,
        **dict(dict(dim=8), **options),
    )


def kernel_by_loops(x, gamma, order):
    x = [[v / math.hypot(*row) for v in row] for row in x.tolist()]
    return [
        [
            sum(
                math.exp(-2 * gamma)
                * (2 * gamma) ** p
                / math.factorial(p)
                * sum(u * v for u, v in zip(a, b)) ** p
                for p in range(order + 1)
            )
            for b in x
        ]
        for a in x
    ]


def cc_by_loops(student, teacher, gamma=0.4, order=2):
    s, t = (kernel_by_loops(x, gamma, order) for x in (student, teacher))
    size = range(len(s))
    total = sum((s[i][j] - t[i][j]) ** 2 for i in size for j in size)
    return total / len(s) ** 2


def neighbour_by_loops(student, teacher):
    error = (student - teacher).tolist()
    products = [
        sum(abs(a) * abs(b) for a, b in zip(error[i], error[i + 1]))
        for i in range(len(error) - 1)
    ]
    return sum(products) / len(products)


@pytest.mark.parametrize('batch', [1, 2, 5])
@pytest.mark.parametrize('gamma, order', [(0.4, 2), (1.3, 0), (0.1, 4)])
def test_kernel_against_loops(batch, gamma, order):
    student, teacher = embeddings(batch)
    expected = cc_by_loops(student, teacher, gamma, order)
    value = float(cc_loss(student, teacher, gamma, order))
    assert value == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize('batch', [2, 5])
def test_neighbour_against_loops(batch):
    student, teacher = embeddings(batch, 6)
    expected = neighbour_by_loops(student, teacher)
    value = float(cc_neighbour_loss(student, teacher))
    assert value == pytest.approx(expected, rel=1e-10)


def test_kernel_of_the_notes():
    value = correlation_matrix(torch.eye(2))
    assert value.diagonal().tolist() == pytest.approx([0.952577] * 2)
    assert float(value[0, 1]) == pytest.approx(0.449329)


def test_expansion_nears_the_gaussian():
    x, _ = embeddings()
    unit = torch.nn.functional.normalize(x, dim=1)
    gaussian = (-0.4 * torch.cdist(unit, unit).square()).exp()
    assert torch.allclose(correlation_matrix(x, order=12), gaussian)
    assert torch.allclose(correlation_matrix(x), gaussian, atol=0.05)


def test_every_second_match_is_enough_for_neighbours():
    error = torch.tensor([[1.0, 2], [0, 0], [1, 1]])
    teacher = torch.randn(3, 2)
    assert cc_neighbour_loss(teacher + error, teacher) < 1e-6
    # and it depends on the order of the batch
    order = [0, 2, 1]
    assert float(
        cc_neighbour_loss((teacher + error)[order], teacher[order])
    ) == pytest.approx(1.5, rel=1e-4)


def test_kernel_does_not_depend_on_order_scale_or_rotation():
    student, teacher = embeddings()
    before = cc_loss(student, teacher)
    order = torch.randperm(5)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4).double())
    for changed in (
        cc_loss(student[order], teacher[order]),
        cc_loss(3 * student, 0.1 * teacher),
        cc_loss(student @ rotation, teacher),
    ):
        assert torch.allclose(changed, before)
    assert cc_loss(student, 2 * student @ rotation) < 1e-12


@pytest.mark.parametrize('form', FORMS)
def test_one_sample(form):
    student, teacher = (x.float() for x in embeddings(1))
    student.requires_grad_()
    value = build(form=form)(student, teacher)
    value.backward()
    assert value < 1e-12 and (student.grad.abs() < 1e-6).all()


def test_zero_embeddings_stay_finite():
    student = torch.zeros(3, 4, requires_grad=True)
    value = cc_loss(student, torch.randn(3, 6))
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(student.grad).all()


@pytest.mark.parametrize('form', FORMS)
def test_the_teachers_map_is_fixed(form):
    """A trainable one could collapse with the student's."""
    loss = build(form=form)
    names = [name for name, _ in loss.named_parameters()]
    assert names == ['embed_student.weight', 'embed_student.bias']
    assert 'teacher_matrix' in loss.state_dict()
    torch.manual_seed(99)
    again = CCLoss(student_width=4, teacher_width=6, dim=8)
    assert torch.equal(loss.teacher_matrix, again.teacher_matrix)
    other = CCLoss(student_width=4, teacher_width=6, dim=8, seed=1)
    assert not torch.equal(loss.teacher_matrix, other.teacher_matrix)
    # a student that is all zeros is far from what is asked for
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.zero_()
        student, teacher = (x.float() for x in embeddings())
        assert loss(student, teacher) > 0.01


@pytest.mark.parametrize('dim', [3, 8])
def test_class_embeds_and_weighs(dim):
    student, teacher = (x.float() for x in embeddings())
    for form, function in (
        ('kernel', lambda s, t: cc_loss(s, t, 0.7, 3)),
        ('neighbour', cc_neighbour_loss),
    ):
        loss = build(form=form, dim=dim, loss_weight=3.0, gamma=0.7, order=3)
        expected = 3 * function(
            loss.embed_student(student), teacher @ loss.teacher_matrix.t()
        )
        assert torch.allclose(loss(student, teacher), expected)
    assert build().form == 'kernel'


@pytest.mark.parametrize('form', FORMS)
def test_gradient_only_to_the_student(form):
    student, teacher = (x.float().requires_grad_() for x in embeddings())
    loss = build(form=form)
    loss(student, teacher).backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None
    assert loss.embed_student.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('form', FORMS)
def test_half_precision_is_computed_in_float32(dtype, form):
    student, teacher = ((1000 * x).to(dtype) for x in embeddings())
    student.requires_grad_()
    loss = build(form=form)
    value = loss(student, teacher)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value) and torch.isfinite(student.grad).all()
    assert torch.equal(value, loss(student.float(), teacher.float()))


def test_unknown_form():
    with pytest.raises(ValueError, match="form='x'.*'kernel'"):
        build(form='x')


def one_rank(gather, rank, ranks):
    """Loss and gradient of the layer on this rank's part of 6."""
    student, teacher = (x.float() for x in embeddings(6))
    part = slice(6 // ranks * rank, 6 // ranks * (rank + 1))
    loss = build(gather=gather)
    value = loss(student[part], teacher[part])
    value.backward()
    return float(value.detach()), loss.embed_student.weight.grad


def gathered_and_not(rank):
    return {gather: one_rank(gather, rank, 2) for gather in (True, False)}


def test_two_processes_equal_one_on_the_joined_batch(tmp_path):
    ranks = results_of_ranks(gathered_and_not, tmp_path)
    value, gradient = one_rank(True, 0, 1)
    for gather in (True, False):
        losses, gradients = zip(*(result[gather] for result in ranks))
        averaged = sum(gradients) / 2  # as DistributedDataParallel does
        same_loss = all(
            loss == pytest.approx(value, rel=1e-5) for loss in losses
        )
        same_gradient = torch.allclose(averaged, gradient, rtol=1e-4)
        assert same_loss is same_gradient is gather
