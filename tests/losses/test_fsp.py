"""FSP against the vector of the notes and plain loops."""

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from dtkd_mmaction.losses.fsp import FSPLoss, fsp_loss, fsp_matrix

STUDENT = [(2, 4, 8, 8), (3, 4, 4, 4), (4, 2, 2, 2), (6, 2, 2, 2)]
TEACHER = [(3, 2, 4, 4), (5, 2, 4, 4), (6, 2, 2, 2)]


def maps(shapes, seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    return [torch.randn(2, *shape, dtype=dtype) for shape in shapes]


def build(student=STUDENT, teacher=TEACHER, **options):
    torch.manual_seed(1)
    return FSPLoss(student_shapes=student, teacher_shapes=teacher, **options)


def matrix_by_loops(first, second):
    """Computes the matrix of one sample in plain loops."""
    return [
        [sum(a * b for a, b in zip(x, y)) / len(x) for y in second]
        for x in first
    ]


def test_vector_of_the_notes():
    first = torch.tensor([[1.0, 2], [3, 4]]).reshape(1, 2, 1, 1, 2)
    second = torch.tensor([[1.0, 0]]).reshape(1, 1, 1, 1, 2)
    value = fsp_matrix(first, second)
    assert torch.equal(value, torch.tensor([[[0.5], [1.5]]]))


def test_matrix_against_loops():
    first, second = maps([(3, 2, 2, 3), (5, 2, 2, 3)], dtype=torch.float64)
    expected = [
        matrix_by_loops(a, b)
        for a, b in zip(first.flatten(2).tolist(), second.flatten(2).tolist())
    ]
    expected = torch.tensor(expected, dtype=torch.float64)
    assert torch.allclose(fsp_matrix(first, second), expected)


def test_loss_against_loops():
    shapes = [(2, 2, 2, 2), (3, 2, 2, 2), (4, 2, 2, 2)]
    student, teacher = maps(shapes), maps(shapes, seed=1)
    expected = 0.0
    for stage in (0, 1):
        errors = [
            (a - b) ** 2
            for sample in (0, 1)
            for rows in zip(
                *(
                    matrix_by_loops(
                        *(x[sample].flatten(1).tolist() for x in pair)
                    )
                    for pair in (
                        student[stage : stage + 2],
                        teacher[stage : stage + 2],
                    )
                )
            )
            for a, b in zip(*rows)
        ]
        expected += sum(errors) / len(errors)
    value = float(fsp_loss(student, teacher))
    assert value == pytest.approx(expected, rel=1e-5)


def test_the_larger_grid_is_averaged():
    first, second = maps([(3, 4, 4, 4), (5, 2, 2, 4)])
    pooled = F.avg_pool3d(first, (2, 2, 1))
    assert torch.allclose(
        fsp_matrix(first, second), fsp_matrix(pooled, second), atol=1e-6
    )
    assert torch.allclose(
        fsp_matrix(second, first), fsp_matrix(second, pooled), atol=1e-6
    )


def test_a_mean_over_positions_does_not_depend_on_the_grid():
    first, second = maps([(3, 2, 2, 2), (5, 2, 2, 2)])
    larger = [
        x.repeat_interleave(3, 3).repeat_interleave(2, 4)
        for x in (first, second)
    ]
    assert torch.allclose(
        fsp_matrix(*larger), fsp_matrix(first, second), atol=1e-6
    )


def test_equal_maps_cost_nothing():
    shapes = [(3, 2, 4, 4), (5, 2, 2, 2)]
    student = maps(shapes)
    assert fsp_loss(student, [x.clone() for x in student]) == 0
    loss = build(shapes, shapes)
    assert loss(student, [x.clone() for x in student]) == 0
    # the order of positions is not looked at
    turned = [x.flip(3) for x in student]
    assert fsp_loss(student, turned) < 1e-10


def test_pairs_from_the_deep_end_and_layers_where_widths_differ():
    loss = build(loss_weight=3.0)
    widths = [
        layer.weight.shape[:2] if isinstance(layer, nn.Conv3d) else None
        for layer in loss.align
    ]
    assert widths == [None, (5, 4), None]
    student, teacher = maps(STUDENT), maps(TEACHER, seed=5)
    aligned = [layer(x) for layer, x in zip(loss.align, student[1:])]
    assert torch.allclose(
        loss(student, teacher), 3 * fsp_loss(aligned, teacher)
    )


def test_gradient_to_student_and_layers_never_to_the_teacher():
    student = [x.requires_grad_() for x in maps(STUDENT)]
    teacher = [x.requires_grad_() for x in maps(TEACHER)]
    loss = build()
    loss(student, teacher).backward()
    assert student[0].grad is None  # has no partner
    assert all(x.grad.abs().sum() > 0 for x in student[1:])
    assert all(x.grad is None for x in teacher)
    assert all(p.grad.abs().sum() > 0 for p in loss.parameters())


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    """The sums are beyond float16."""
    student = [60 * x.abs() for x in maps(STUDENT)]
    teacher = [(60 * x).to(dtype) for x in maps(TEACHER)]
    student = [x.to(dtype).requires_grad_() for x in student]
    loss = build()
    value = loss(student, teacher)
    value.backward()
    assert value.dtype == torch.float32 and torch.isfinite(value)
    assert all(torch.isfinite(x.grad).all() for x in student[1:])
    assert torch.equal(
        value, loss([x.float() for x in student], [x.float() for x in teacher])
    )


def test_one_stage_has_no_next():
    with pytest.raises(ValueError, match='student has 4, the teacher 1'):
        build(STUDENT, TEACHER[-1:])


def test_missing_stages():
    with pytest.raises(ValueError, match='3 pairs'):
        build()(maps(STUDENT[-2:]), maps(TEACHER))
