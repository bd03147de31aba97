"""AT against the vectors of the notes and plain loops."""

import math

import pytest
import torch
import torch.nn.functional as F

from dtkd_mmaction.losses.at import (
    NORMS_OVER,
    REDUCTIONS,
    ATLoss,
    at_loss,
    attention_vectors,
    deepest_pairs,
)


def maps(student=(3, 2, 2, 3), teacher=(5, 2, 2, 3), size=2, seed=0):
    torch.manual_seed(seed)
    return (
        torch.randn(size, *student, dtype=torch.float64),
        torch.randn(size, *teacher, dtype=torch.float64),
    )


def row(*values):
    """One channel, one frame: (1, 1, 1, 1, W)."""
    return torch.tensor(values).reshape(1, 1, 1, 1, -1)


def by_loops(student, teacher, norm_over, reduction):
    """Unequal grids aside."""
    total, count = 0.0, 0
    for s, t in zip(student, teacher):
        frames = [slice(f, f + 1) for f in range(s.shape[1])]
        for part in frames if norm_over == 'hw' else [slice(None)]:
            vectors = []
            for feature_map in (s, t):
                channels = feature_map[:, part].flatten(1).tolist()
                vector = [
                    sum(v * v for v in position) / len(channels)
                    for position in zip(*channels)
                ]
                length = math.sqrt(sum(v * v for v in vector))
                vectors.append([v / length for v in vector])
            errors = [(a - b) ** 2 for a, b in zip(*vectors)]
            positions = len(errors) if reduction == 'mean' else 1
            total += sum(errors) / positions
            count += 1
    return total / count


@pytest.mark.parametrize('norm_over', NORMS_OVER)
@pytest.mark.parametrize('reduction', REDUCTIONS)
@pytest.mark.parametrize('grid', [(2, 2, 3), (1, 4, 1), (3, 1, 1)])
def test_against_loops(norm_over, reduction, grid):
    student, teacher = maps((3, *grid), (5, *grid))
    expected = by_loops(student, teacher, norm_over, reduction)
    value = float(at_loss(student, teacher, norm_over, reduction))
    assert value == pytest.approx(expected, rel=1e-10)


def test_vector_of_the_notes():
    student, teacher = row(3.0, 4.0), row(1.0, 1.0)
    attention = attention_vectors(student, 'thw').flatten().tolist()
    assert attention == pytest.approx([0.4903, 0.8716], abs=5e-5)
    attention = attention_vectors(teacher, 'thw').flatten().tolist()
    assert attention == pytest.approx([0.7071, 0.7071], abs=5e-5)
    value = float(at_loss(student, teacher, reduction='mean'))
    assert value == pytest.approx(0.0370360, abs=1e-7)


def test_no_common_position_is_the_most():
    value = at_loss(row(2.0, 0.0), row(0.0, 7.0), reduction='mean')
    assert float(value) == pytest.approx(1.0)
    value = at_loss(row(2.0, 0.0), row(0.0, 7.0))
    assert float(value) == pytest.approx(2.0)


@pytest.mark.parametrize('norm_over', NORMS_OVER)
def test_official_mean_depends_on_the_grid_the_sum_does_not(norm_over):
    for grid, bound in (((1, 7, 7), 0.041), ((8, 7, 7), 0.0051)):
        student, teacher = maps((3, *grid), (5, *grid))
        total = float(at_loss(student, teacher, norm_over))
        mean = float(at_loss(student, teacher, norm_over, 'mean'))
        positions = 49 * (grid[0] if norm_over == 'thw' else 1)
        assert 0 <= total <= 2
        assert mean == pytest.approx(total / positions, rel=1e-9)
        if norm_over == 'thw':
            assert mean <= bound


@pytest.mark.parametrize('norm_over', NORMS_OVER)
@pytest.mark.parametrize('factor', [-3.0, 1e-2, 50.0])
def test_scale_and_order_of_channels_change_nothing(norm_over, factor):
    student, teacher = maps()
    before = at_loss(student, teacher, norm_over)
    for changed in (factor * student, student[:, torch.randperm(3)]):
        after = at_loss(changed, teacher, norm_over)
        assert torch.allclose(before, after, rtol=1e-9)
    after = at_loss(student, factor * teacher, norm_over)
    assert torch.allclose(before, after, rtol=1e-9)


def test_a_sample_is_not_normalised_by_another():
    student, teacher = maps()
    both = at_loss(student, teacher)
    student[1] *= 100
    assert torch.allclose(at_loss(student, teacher), both)
    assert torch.allclose(
        both,
        (at_loss(student[:1], teacher[:1]) + at_loss(student[1:], teacher[1:]))
        / 2,
    )


def test_frames_have_their_own_norm():
    """A frame that is ten times as bright takes the joint norm alone."""
    student, teacher = maps()
    frames = at_loss(student, teacher, 'hw')
    joint = at_loss(student, teacher, 'thw')
    student[:, :, 0] *= 10
    assert torch.allclose(at_loss(student, teacher, 'hw'), frames)
    assert not torch.allclose(at_loss(student, teacher, 'thw'), joint)


def test_features_are_pooled_before_they_are_squared():
    student, teacher = maps((3, 4, 4, 6), (5, 2, 2, 3))
    pooled = F.avg_pool3d(student, 2)
    expected = at_loss(pooled, teacher)
    assert torch.allclose(at_loss(student, teacher), expected)
    squared = F.avg_pool3d(student.square(), 2).sqrt()
    assert not torch.allclose(at_loss(squared, teacher), expected)
    # the larger may be the teacher's, and neither in every dimension
    student, teacher = maps((3, 4, 2, 2), (5, 2, 4, 4))
    expected = at_loss(
        F.avg_pool3d(student, (2, 1, 1)), F.avg_pool3d(teacher, (1, 2, 2))
    )
    assert torch.allclose(at_loss(student, teacher), expected)


def test_maps_after_layer_norm_have_no_attention():
    """Why a ViT teacher is tapped before its final LayerNorm."""
    torch.manual_seed(0)
    feature_map = torch.randn(1, 64, 2, 3, 3) * torch.rand(1, 1, 2, 3, 3)
    normed = F.layer_norm(feature_map.movedim(1, -1), (64,)).movedim(-1, 1)

    def variation(x):
        attention = attention_vectors(x, 'thw')
        return attention.std() / attention.mean()

    assert variation(feature_map) > 0.5 and variation(normed) < 0.05


def test_gradient():
    student, teacher = maps()
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: at_loss(s, teacher), (student,))


def test_dead_maps_stay_finite():
    student = torch.zeros(2, 3, 1, 2, 2, requires_grad=True)
    value = at_loss(student, torch.zeros(2, 5, 1, 2, 2))
    value.backward()
    assert value == 0 and torch.isfinite(student.grad).all()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    """The squares are beyond float16."""
    student, teacher = ((1000 * x).to(dtype) for x in maps())
    student.requires_grad_()
    value = ATLoss(stages=1)([student], [teacher])
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value) and torch.isfinite(student.grad).all()
    assert torch.equal(
        value, ATLoss(stages=1)([student.float()], [teacher.float()])
    )


def stages(count, channels, seed):
    return [
        maps((channels + i, 2, 2, 3), seed=seed + i)[0].requires_grad_()
        for i in range(count)
    ]


def test_pairs_from_the_deep_end():
    assert deepest_pairs('abcd', 'xyz', 2) == [('c', 'y'), ('d', 'z')]
    student, teacher = stages(4, 3, 0), stages(3, 7, 10)
    loss = ATLoss(loss_weight=5.0, norm_over='hw', reduction='mean')
    value = loss(student, teacher)
    assert torch.allclose(
        value,
        5
        * sum(
            at_loss(s, t, 'hw', 'mean')
            for s, t in ((student[2], teacher[1]), (student[3], teacher[2]))
        ),
    )
    value.backward()
    touched = [s.grad is not None for s in student]
    assert touched == [False, False, True, True]
    assert all(t.grad is None for t in teacher)


def test_too_few_stages():
    with pytest.raises(ValueError, match='3 pairs.*student has 2.*teacher 5'):
        ATLoss(stages=3)(stages(2, 3, 0), stages(5, 3, 0))
    with pytest.raises(ValueError, match='an integer >= 1'):
        ATLoss(stages=0)


@pytest.mark.parametrize('option', ['norm_over', 'reduction'])
def test_unknown_option(option):
    message = f"{option}='x'.*choose one of"
    with pytest.raises(ValueError, match=message):
        ATLoss(**{option: 'x'})
    with pytest.raises(ValueError, match=message):
        at_loss(*maps(), **{option: 'x'})
