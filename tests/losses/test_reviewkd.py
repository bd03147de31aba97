"""ReviewKD: the pyramid of HCL, fusion from deep to shallow, warm-up."""

import pytest
import torch
import torch.nn.functional as F

from dtkd_mmaction.losses import reviewkd
from dtkd_mmaction.losses.reviewkd import (
    AttentionBasedFusion,
    ReviewKDLoss,
    hcl_loss,
)

STUDENT = [(4, 4, 8, 8), (6, 4, 4, 4), (8, 4, 2, 2)]
TEACHER = [(3, 2, 9, 9), (5, 2, 5, 5), (7, 2, 3, 3)]


def build(student=STUDENT, teacher=TEACHER, **options):
    torch.manual_seed(1)
    return ReviewKDLoss(
        student_shapes=student,
        teacher_shapes=teacher,
        student_width=8,
        teacher_width=10,
        **options,
    )


def inputs(student=STUDENT, teacher=TEACHER, size=2):
    torch.manual_seed(0)
    return dict(
        student_maps=[torch.randn(size, *shape) for shape in student],
        teacher_maps=[torch.randn(size, *shape) for shape in teacher],
        student_embedding=torch.randn(size, 8),
        teacher_embedding=torch.randn(size, 10),
    )


# ---------------------------------------------------------------------------
# HCL.


def pooled_by_loops(plane, size):
    """Cell k of n covers [floor(k * N / n), ceil((k + 1) * N / n))."""
    height, width = plane.shape
    rows = min(size, height)
    columns = min(size, width)
    cells = torch.zeros(rows, columns, dtype=plane.dtype)
    for i in range(rows):
        for j in range(columns):
            cells[i, j] = plane[
                i * height // rows : -(-(i + 1) * height // rows),
                j * width // columns : -(-(j + 1) * width // columns),
            ].mean()
    return cells


def hcl_by_loops(student, teacher):
    planes = [
        (s, t)
        for s, t in zip(
            student.flatten(0, 2).unbind(), teacher.flatten(0, 2).unbind()
        )
    ]
    total, weights, weight = 0.0, 0.0, 1.0
    largest = max(student.shape[3:])
    for size in [largest] + [s for s in (4, 2, 1) if s < largest]:
        errors = [
            float(
                (pooled_by_loops(s, size) - pooled_by_loops(t, size))
                .square()
                .mean()
            )
            for s, t in planes
        ]
        total += weight * sum(errors) / len(errors)
        weights += weight
        weight /= 2
    return total / weights


@pytest.mark.parametrize(
    'shape',
    [(3, 2, 7, 7), (2, 1, 4, 4), (3, 2, 5, 3), (2, 2, 2, 2), (2, 1, 1, 1)],
)
def test_hcl_against_loops(shape):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, *shape, dtype=torch.float64)
    assert float(hcl_loss(student, teacher)) == pytest.approx(
        hcl_by_loops(student, teacher), rel=1e-10
    )


@pytest.mark.parametrize('size', [1, 2, 3, 4, 5, 7, 14])
def test_constant_difference(size):
    """The vector of the notes: 2 costs 4, whatever the levels."""
    student = torch.randn(1, 2, 2, size, size)
    assert float(hcl_loss(student, student + 2)) == pytest.approx(4)
    assert hcl_loss(student, student) == 0


def test_weights_of_the_notes():
    """At 7 x 7 the weights 1, 1/2, 1/4 and 1/8 make 1.875."""
    # zero in every cell of 4 x 4 and of 2 x 2
    hidden = torch.tensor([0.0, 0, 1, -1, 1, 0, 0])
    teacher = torch.outer(hidden, hidden).reshape(1, 1, 1, 7, 7)
    value = float(hcl_loss(torch.zeros_like(teacher), teacher))
    expected = (9 / 49 + (1 / 49) ** 2 / 8) / 1.875
    assert value == pytest.approx(expected, rel=1e-5)


def test_width_counts_as_height():
    """A map that is wide but low is still pooled."""
    low = torch.randn(1, 2, 1, 1, 6), torch.randn(1, 2, 1, 1, 6)
    tall = [x.transpose(3, 4) for x in low]
    assert torch.allclose(hcl_loss(*low), hcl_loss(*tall))
    assert not torch.allclose(hcl_loss(*low), F.mse_loss(*low))


def test_time_is_not_pooled():
    student, teacher = torch.randn(2, 2, 3, 4, 4, 4)
    frames = [
        hcl_loss(s.unsqueeze(2), t.unsqueeze(2))
        for s, t in zip(student.unbind(2), teacher.unbind(2))
    ]
    assert torch.allclose(hcl_loss(student, teacher), sum(frames) / 4)


# ---------------------------------------------------------------------------
# Fusion.


def test_fusion_is_a_weighted_sum():
    torch.manual_seed(0)
    fusion = AttentionBasedFusion(3, 4, 5, fuse=True).eval()
    student, deeper = torch.randn(2, 3, 2, 4, 4), torch.randn(2, 4, 2, 2, 2)
    compared, passed = fusion(student, deeper, (2, 4, 4))
    own = fusion.reduce(student)
    other = deeper.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)
    stacked = torch.cat([own, other], dim=1)
    first, second = fusion.attention(stacked).sigmoid().unbind(dim=1)
    expected = first[:, None] * own + second[:, None] * other
    assert torch.allclose(passed, expected)
    assert torch.allclose(compared, fusion.expand(expected))


def test_deepest_fuses_nothing():
    fusion = AttentionBasedFusion(3, 4, 5, fuse=False).eval()
    student = torch.randn(2, 3, 2, 4, 4)
    compared, passed = fusion(student, None, (1, 2, 3))
    assert fusion.attention is None
    assert passed.shape == (2, 4, 1, 2, 3)
    assert compared.shape == (2, 5, 1, 2, 3)
    # nearest: frame 0, rows 0 and 2, columns 0, 1 and 2 of 4
    assert torch.equal(passed, fusion.reduce(student)[:, :, :1, ::2, :3])


def test_levels_by_hand():
    data = inputs()
    loss = build(loss_weight=3.0).eval()
    students = [*data['student_maps'], data['student_embedding']]
    teachers = [*data['teacher_maps'], data['teacher_embedding']]
    students[3] = students[3].reshape(2, 8, 1, 1, 1)
    teachers[3] = teachers[3].reshape(2, 10, 1, 1, 1)
    total, deeper = 0.0, None
    for level in (3, 2, 1, 0):
        grid = tuple(teachers[level].shape[2:])
        compared, deeper = loss.fusions[level](students[level], deeper, grid)
        assert compared.shape == teachers[level].shape
        total = total + hcl_loss(compared, teachers[level])
    assert torch.allclose(loss(**data), 3 * total)


def test_deep_knowledge_reaches_shallow_levels():
    """The shallowest comparison depends on the pooled vector."""
    data = inputs()
    data['student_embedding'].requires_grad_()
    loss = build()
    loss.fusions[1:].requires_grad_(False)
    compared = []
    loss.fusions[0].register_forward_hook(
        lambda *hook: compared.append(hook[2][0])
    )
    loss(**data)
    compared[0].sum().backward()
    assert data['student_embedding'].grad.abs().sum() > 0


@pytest.mark.parametrize('mid_channels, expected', [(None, 8), (3, 3)])
def test_mid_channels(mid_channels, expected):
    loss = build(mid_channels=mid_channels)
    assert {f.reduce[0].out_channels for f in loss.fusions} == {expected}
    wide = build([*STUDENT[:2], (600, 4, 2, 2)], mid_channels=mid_channels)
    assert wide.fusions[0].reduce[0].out_channels == (mid_channels or 512)


@pytest.mark.parametrize('stages', [1, 2, 3, 8])
@pytest.mark.parametrize('more', ['student', 'teacher'])
def test_pairs_from_the_deep_end(stages, more):
    shapes = dict(student=STUDENT, teacher=TEACHER)
    shapes[more] = [(2, 4, 16, 16), *shapes[more]]
    loss = build(**shapes, stages=stages).eval()
    used = min(stages, 3)
    assert len(loss.fusions) == used + 1
    assert [f.reduce[0].in_channels for f in loss.fusions] == (
        [4, 6, 8][-used:] + [8]
    )
    assert [f.expand[0].out_channels for f in loss.fusions] == (
        [3, 5, 7][-used:] + [10]
    )
    data = inputs(**shapes)
    expected = {
        name: value[-used:] if name.endswith('maps') else value
        for name, value in data.items()
    }
    assert torch.equal(loss(**data), loss(**expected))


# ---------------------------------------------------------------------------
# The class.


def test_warm_up(monkeypatch):
    asked = []

    def third(epochs):
        asked.append(epochs)
        return 1 / 3

    data, loss = inputs(), build(warm_up_epochs=20).eval()
    monkeypatch.setattr(reviewkd, 'warm_up', third)
    value = loss(**data)
    assert asked == [20]
    monkeypatch.undo()
    assert torch.allclose(3 * value, build().eval()(**data))


@pytest.mark.parametrize('size', [1, 2])
def test_last_batch_of_one_clip(size):
    """Batch norm finds no variance in one pooled vector."""
    loss = build()
    value = loss(**inputs(size=size))
    value.backward()
    assert torch.isfinite(value)
    for name, buffer in loss.named_buffers():
        assert torch.isfinite(buffer).all(), name


def test_gradient_only_to_the_student():
    data = inputs()
    for value in data.values():
        for x in value if isinstance(value, list) else [value]:
            x.requires_grad_()
    loss = build()
    loss(**data).backward()
    assert all(x.grad.abs().sum() > 0 for x in data['student_maps'])
    assert data['student_embedding'].grad.abs().sum() > 0
    assert all(x.grad is None for x in data['teacher_maps'])
    assert data['teacher_embedding'].grad is None
    assert all(p.grad is not None for p in loss.parameters())


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    data = {
        name: [x.to(dtype) for x in value]
        if isinstance(value, list)
        else value.to(dtype)
        for name, value in inputs().items()
    }
    value = build()(**data)
    assert value.dtype == torch.float32 and torch.isfinite(value)


def test_no_stages():
    with pytest.raises(ValueError, match='stages=0'):
        build(stages=0)
