"""OFA-KD against the vectors of the notes, loops and its own adapters."""

import math

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from dtkd_mmaction.losses.ofa import OFALoss, ofa_loss, stage_head

SHAPES = [(4, 4, 8, 8), (6, 4, 4, 4), (8, 4, 2, 2)]


def logits(size=5, classes=7):
    torch.manual_seed(0)
    student, teacher = 3 * torch.randn(2, size, classes, dtype=torch.float64)
    return student, teacher, torch.arange(size) % classes


def build(shapes=SHAPES, **options):
    torch.manual_seed(1)
    options = {'teacher_width': 5, 'num_classes': 7, **options}
    return OFALoss(student_shapes=shapes, **options)


def inputs(shapes=SHAPES, size=2):
    student, teacher, labels = logits(size)
    return dict(
        student_logits=student.float(),
        student_maps=[torch.randn(size, *shape) for shape in shapes],
        teacher_logits=teacher.float(),
        labels=labels,
    )


def by_loops(student, teacher, labels, epsilon, tau):
    total = 0.0
    for s, t, label in zip(student.tolist(), teacher.tolist(), labels):
        p, q = (
            [math.exp(v / tau) / sum(math.exp(w / tau) for w in z) for v in z]
            for z in (t, s)
        )
        for k in range(len(s)):
            target = 1 if k == label else 0
            total -= ((p[k] + target) ** epsilon - target) * math.log(q[k])
    return total / len(student)


@pytest.mark.parametrize('epsilon', [0.8, 1.0, 1.5, 2.0])
@pytest.mark.parametrize('tau', [1.0, 4.0])
def test_against_loops(epsilon, tau):
    data = logits()
    assert float(ofa_loss(*data, epsilon, tau)) == pytest.approx(
        by_loops(*data, epsilon, tau), rel=1e-10
    )


@pytest.mark.parametrize('epsilon, expected', [(1, 0.693147), (1.5, 0.998154)])
def test_vectors_of_the_notes(epsilon, expected):
    teacher = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)
    student = torch.zeros(1, 2, dtype=torch.float64)
    value = ofa_loss(student, teacher, torch.tensor([0]), epsilon, 1.0)
    assert float(value) == pytest.approx(expected, abs=1e-6)


def test_epsilon_one_is_kl_plus_entropy():
    student, teacher, labels = logits()
    p = teacher.softmax(1)
    log_q = student.log_softmax(1)
    kl = F.kl_div(log_q, p, reduction='batchmean')
    entropy = -(p * p.log()).sum(1).mean()
    value = ofa_loss(student, teacher, labels, 1.0, 1.0)
    assert torch.allclose(value, kl + entropy)
    # whatever the label
    assert torch.allclose(
        value, ofa_loss(student, teacher, (labels + 1) % 7, 1.0, 1.0)
    )


def test_epsilon_favours_the_label():
    student, teacher, labels = logits()

    def gradient(epsilon):
        leaf = student.clone().requires_grad_()
        ofa_loss(leaf, teacher, labels, epsilon, 1.0).backward()
        return leaf.grad[torch.arange(len(labels)), labels]

    assert (gradient(1.5) < gradient(1.0)).all()


def test_sure_logits_stay_finite():
    """log(softmax) is minus infinity here, and so was the official code."""
    student = torch.tensor([[0.0, 300.0]], requires_grad=True)
    teacher = torch.tensor([[300.0, 0.0]])
    value = ofa_loss(student, teacher, torch.tensor([0]), 1.5, 1.0)
    value.backward()
    assert value.item() == pytest.approx((2**1.5 - 1) * 300)
    assert torch.isfinite(student.grad).all()


# ---------------------------------------------------------------------------
# The adapters.


def test_adapters_of_the_notes():
    """The deepest: one 1x1x1; before: blocks that halve and double."""
    heads = build().heads
    convolutions = [
        [layer for layer in head.modules() if isinstance(layer, nn.Conv3d)]
        for head in heads
    ]
    # two blocks, one block, one convolution
    assert [len(c) for c in convolutions] == [8, 4, 1]
    assert [c[-1].out_channels for c in convolutions] == [8, 8, 8]
    assert convolutions[0][3].out_channels == 2 * 4
    assert convolutions[2][0].kernel_size == (1, 1, 1)
    for head, shape, grid in zip(heads, SHAPES, [(4, 2, 2)] * 3):
        features = torch.randn(2, *shape)
        for layer in head[:-3]:
            features = layer(features)
        assert features.shape == (2, 8, *grid)


def test_the_wider_of_both_is_classified():
    for teacher_width, width in ((5, 8), (12, 12)):
        for head in build(teacher_width=teacher_width).heads:
            assert head[-1].in_features == width


def test_last_stages_are_used():
    data = inputs()
    for stages, used in ((1, 1), (2, 2), (3, 3), (9, 3)):
        loss = build(stages=stages).eval()
        assert len(loss.heads) == used
        value = loss(**data)
        expected = loss(
            **{**data, 'student_maps': data['student_maps'][-used:]}
        )
        assert torch.equal(value, expected)


@pytest.mark.parametrize('grid', [(2, 1, 1), (1, 3, 3), (1, 1, 1)])
def test_small_grids(grid):
    shapes = [(4, *grid), (6, *grid), (8, *grid)]
    value = build(shapes)(**inputs(shapes))
    value.backward()
    assert torch.isfinite(value)


def test_other_grids_than_announced():
    data = inputs([(4, 3, 9, 7), (6, 3, 5, 4), (8, 3, 3, 2)])
    assert torch.isfinite(build()(**data))


def test_head_gives_logits():
    assert stage_head(4, 8, 2, 7)(torch.randn(2, 4, 3, 8, 8)).shape == (2, 7)


# ---------------------------------------------------------------------------
# The class.


def test_class_sums_its_terms():
    data = inputs()
    loss = build(
        loss_weight=3.0,
        stage_weight=0.25,
        final_weight=2.0,
        epsilon=1.5,
        final_epsilon=1.2,
        tau=2.0,
    ).eval()
    teacher, labels = data['teacher_logits'], data['labels']
    stages = sum(
        ofa_loss(head(x), teacher, labels, 1.5, 2.0)
        for head, x in zip(loss.heads, data['student_maps'])
    )
    final = ofa_loss(data['student_logits'], teacher, labels, 1.2, 2.0)
    expected = 3 * (0.25 * stages + 2 * final)
    assert torch.allclose(loss(**data), expected)


def test_gradient_only_to_the_student():
    data = inputs()
    for name in ('student_logits', 'teacher_logits'):
        data[name].requires_grad_()
    for stage in data['student_maps']:
        stage.requires_grad_()
    loss = build()
    loss(**data).backward()
    assert data['student_logits'].grad.abs().sum() > 0
    assert all(x.grad.abs().sum() > 0 for x in data['student_maps'])
    assert data['teacher_logits'].grad is None
    assert all(p.grad is not None for p in loss.parameters())


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    data = inputs()
    for name in ('student_logits', 'teacher_logits'):
        data[name] = data[name].to(dtype)
    data['student_maps'] = [x.to(dtype) for x in data['student_maps']]
    value = build()(**data)
    assert value.dtype == torch.float32 and torch.isfinite(value)


def test_no_stages():
    with pytest.raises(ValueError, match='stages=0'):
        build(stages=0)
