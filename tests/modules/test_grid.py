import pytest
import torch
import torch.nn.functional as F

from dtkd_mmaction.modules import align_grids, resize_grid
from dtkd_mmaction.modules.projections import orthogonal_matrix, project

GRIDS = ((16, 5, 5), (8, 7, 7), (16, 7, 6))  # student, ViT, CNN


def maps(*grids):
    torch.manual_seed(0)
    return [torch.randn(2, 3, *grid, dtype=torch.float64) for grid in grids]


def average_by_loops(x, size):
    """Cell k of n covers [floor(k * N / n), ceil((k + 1) * N / n))."""
    cells = []
    for length, n in zip(x.shape[2:], size):
        cells.append(
            [
                slice(k * length // n, -(-(k + 1) * length // n))
                for k in range(n)
            ]
        )
    out = x.new_zeros(*x.shape[:2], *size)
    for i, t in enumerate(cells[0]):
        for j, h in enumerate(cells[1]):
            for k, w in enumerate(cells[2]):
                out[:, :, i, j, k] = x[:, :, t, h, w].mean(dim=(2, 3, 4))
    return out


@pytest.mark.parametrize(
    'grid, expected',
    [('min', (8, 5, 5)), ('student', (16, 5, 5)), ('vit', (8, 7, 7))],
)
def test_common_grid(grid, expected):
    for aligned in align_grids(maps(*GRIDS), grid):
        assert aligned.shape == (2, 3, *expected)


def test_the_map_that_has_the_grid_is_left_alone():
    student, vit, _ = originals = maps(*GRIDS)
    assert align_grids(originals, 'student')[0] is student
    assert align_grids(originals, 'vit')[1] is vit
    assert align_grids([student, student], 'min')[1] is student


@pytest.mark.parametrize('size', [(2, 3, 3), (4, 5, 2), (3, 4, 4), (1, 1, 1)])
def test_shrinks_by_means(size):
    (x,) = maps((4, 6, 6))
    assert torch.allclose(
        resize_grid(x, size), average_by_loops(x, size), atol=1e-12
    )


def test_grows_by_interpolation():
    ramp = torch.arange(4.0).view(1, 1, 1, 1, 4)
    grown = resize_grid(ramp, (1, 1, 8)).flatten()
    # align_corners=False: cell centres, the border repeated
    assert grown.tolist() == [0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]


def test_shrinks_one_axis_and_grows_another():
    (x,) = maps((4, 6, 6))
    pooled = F.avg_pool3d(x, (1, 2, 2))
    expected = F.interpolate(pooled, (8, 3, 3), mode='trilinear')
    assert torch.allclose(resize_grid(x, (8, 3, 3)), expected, atol=1e-12)


def test_a_constant_stays_constant():
    x = torch.full((1, 2, 4, 7, 5), 3.0)
    for size in ((2, 5, 5), (8, 9, 9), (8, 3, 5)):
        assert torch.allclose(
            resize_grid(x, size), torch.full((1, 2, *size), 3.0)
        )


def test_commutes_with_phi():
    """A 1x1x1 map may come before or after the pooling (notes, C10)."""
    (x,) = maps((4, 6, 6))
    matrix = orthogonal_matrix(5, 3, seed=0).double()
    assert torch.allclose(
        resize_grid(project(x, matrix), (2, 4, 3)),
        project(resize_grid(x, (2, 4, 3)), matrix),
        atol=1e-12,
    )


def test_gradient_and_memory_format():
    x = maps((2, 3, 3))[0][:1].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: resize_grid(x, (3, 2, 2)), (x,))
    strided = x.detach().contiguous(memory_format=torch.channels_last_3d)
    assert torch.allclose(
        resize_grid(strided, (3, 2, 2)), resize_grid(x, (3, 2, 2))
    )
