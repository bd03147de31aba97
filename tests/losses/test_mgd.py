"""MGD: masks, reductions and the order of its steps."""

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from dtkd_mmaction.losses.mgd import (
    MASKS_ON,
    REDUCTIONS,
    MGDLoss,
    mgd_loss,
    random_mask,
)

SHAPE = (4, 2, 3, 3)


def maps(student=SHAPE, teacher=SHAPE, size=2):
    torch.manual_seed(0)
    return torch.randn(size, *student), torch.randn(size, *teacher)


def build(student=SHAPE, teacher=SHAPE, **options):
    torch.manual_seed(1)
    return MGDLoss(student_shape=student, teacher_shape=teacher, **options)


def by_loops(generated, teacher, reduction):
    pairs = zip(generated.flatten().tolist(), teacher.flatten().tolist())
    total = sum((a - b) ** 2 for a, b in pairs)
    if reduction == 'mse_mean':
        return total / generated.numel()
    return total / len(generated)


@pytest.mark.parametrize('reduction', REDUCTIONS)
def test_against_loops(reduction):
    data = maps()
    value = float(mgd_loss(*data, reduction))
    assert value == pytest.approx(by_loops(*data, reduction), rel=1e-5)


def test_official_sum_is_the_size_of_the_map_times_the_mean():
    data = maps()
    total = mgd_loss(*data, 'sum_per_sample')
    assert torch.allclose(total, 4 * 2 * 3 * 3 * mgd_loss(*data))
    # what alpha = 7e-5 is worth
    for elements, weight in ((512 * 49, 1.76), (768 * 8 * 49, 21)):
        assert 7e-5 * elements == pytest.approx(weight, rel=0.01)


@pytest.mark.parametrize(
    'mask_on, shape',
    [
        ('channel', (2, 4, 1, 1, 1)),
        ('position', (2, 1, 2, 3, 3)),
        ('tube', (2, 1, 1, 3, 3)),
    ],
)
def test_shape_of_the_mask(mask_on, shape):
    mask = random_mask(maps()[0], mask_on, 0.5)
    assert mask.shape == shape
    assert set(mask.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize('mask_on', MASKS_ON)
@pytest.mark.parametrize('ratio', [0.0, 0.15, 0.65, 1.0])
def test_the_ratio_is_what_is_dropped(mask_on, ratio):
    torch.manual_seed(0)
    mask = random_mask(torch.empty(64, 80, 2, 9, 9), mask_on, ratio)
    dropped = float((mask == 0).float().mean())
    assert dropped == pytest.approx(ratio, abs=0.02)


def test_every_call_draws_another_mask():
    feature_map = torch.empty(4, 64, 1, 1, 1)
    one, other = (random_mask(feature_map, 'channel', 0.5) for _ in range(2))
    assert not torch.equal(one, other)
    assert not torch.equal(one[0], one[1])


def test_perfect_generation_costs_nothing():
    loss = build(mask_ratio=0.0)
    loss.generator = nn.Identity()
    assert isinstance(loss.align, nn.Identity)
    student, _ = maps()
    assert loss(student, student.clone()) == 0
    # kept values are not scaled up, dropped ones are missed
    loss.mask_ratio = 0.5
    torch.manual_seed(0)
    mask = random_mask(student, 'channel', 0.5)
    torch.manual_seed(0)
    value = loss(student, student.clone())
    assert torch.allclose(value, (student * (1 - mask)).square().mean())


@pytest.mark.parametrize('mask_on', MASKS_ON)
def test_a_whole_mask_hides_the_student(mask_on):
    loss = build(mask_ratio=1.0, mask_on=mask_on)
    student, teacher = maps()
    student.requires_grad_()
    value = loss(student, teacher)
    value.backward()
    assert (student.grad == 0).all()
    assert torch.equal(value, loss(3 * student + 1, teacher))


@pytest.mark.parametrize('mask_on', MASKS_ON)
@pytest.mark.parametrize('reduction', REDUCTIONS)
def test_grid_then_width_then_mask_then_generator(mask_on, reduction):
    student, teacher = maps((3, 4, 6, 2), (5, 2, 3, 4))
    loss = build(
        (3, 4, 6, 2),
        (5, 2, 3, 4),
        loss_weight=2.0,
        mask_on=mask_on,
        mask_ratio=0.5,
        reduction=reduction,
    )
    torch.manual_seed(7)
    value = loss(student, teacher)
    torch.manual_seed(7)
    aligned = loss.align(F.avg_pool3d(student, (2, 2, 1)))
    first, _, second = loss.generator
    masked = aligned * random_mask(aligned, mask_on, 0.5)
    generated = second(F.relu(first(masked)))
    target = F.avg_pool3d(teacher, (1, 1, 2))
    assert torch.allclose(value, 2 * mgd_loss(generated, target, reduction))


def test_layers():
    loss = build((3, 1, 1, 1), (5, 1, 1, 1))
    assert loss.align.weight.shape == (5, 3, 1, 1, 1)
    convolutions = [x for x in loss.generator if isinstance(x, nn.Conv3d)]
    assert [x.weight.shape for x in convolutions] == [(5, 5, 3, 3, 3)] * 2
    assert all(x.bias is not None for x in convolutions)
    # a student of the same width has no convolution in its way
    assert not list(build().align.parameters())


def test_defaults_are_those_of_classification():
    loss = build()
    assert (loss.mask_on, loss.mask_ratio) == ('channel', 0.15)


def test_gradient_to_student_and_layers_never_to_the_teacher():
    student, teacher = (x.requires_grad_() for x in maps((3, 2, 3, 3)))
    loss = build((3, 2, 3, 3))
    loss(student, teacher).backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None
    assert all(p.grad.abs().sum() > 0 for p in loss.parameters())


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('reduction', REDUCTIONS)
def test_half_precision_is_computed_in_float32(dtype, reduction):
    """The squares are beyond float16."""
    student, teacher = ((1000 * x).to(dtype) for x in maps())
    student.requires_grad_()
    loss = build(mask_ratio=0.0, reduction=reduction)
    value = loss(student, teacher)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value) and torch.isfinite(student.grad).all()
    assert torch.equal(value, loss(student.float(), teacher.float()))


@pytest.mark.parametrize('option', ['mask_on', 'reduction'])
def test_unknown_option(option):
    with pytest.raises(ValueError, match=f"{option}='x'.*choose one of"):
        build(**{option: 'x'})


def test_the_functions_name_an_unknown_option_too():
    with pytest.raises(ValueError, match="'x'.*choose one of"):
        mgd_loss(*maps(), 'x')
    with pytest.raises(ValueError, match="'x'.*choose one of"):
        random_mask(maps()[0], 'x', 0.5)


@pytest.mark.parametrize('ratio', [-0.1, 65])
def test_impossible_ratio(ratio):
    with pytest.raises(ValueError, match='between 0 and 1'):
        build(mask_ratio=ratio)
