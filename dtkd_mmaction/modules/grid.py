"""Resizing of feature maps to one (T, H, W) grid."""

from typing import List, Sequence, Tuple

import torch.nn.functional as F
from torch import Tensor

GRIDS = ('min', 'student', 'vit')


def resize_grid(feature_map: Tensor, grid: Sequence[int]) -> Tensor:
    """Resizes a map: averages to shrink, interpolates to grow.

    Args:
        feature_map (Tensor): (B, C, T, H, W).
        grid (Sequence[int]): Wanted (T, H, W).

    Returns:
        Tensor: (B, C) and the grid.
    """
    grid = tuple(grid)
    pooled = tuple(map(min, feature_map.shape[2:], grid))
    if pooled != tuple(feature_map.shape[2:]):
        feature_map = F.adaptive_avg_pool3d(feature_map, pooled)
    if pooled != grid:
        feature_map = F.interpolate(
            feature_map, size=grid, mode='trilinear', align_corners=False
        )
    return feature_map


def common_grid(
    grids: Sequence[Sequence[int]], grid: str = 'min'
) -> Tuple[int, ...]:
    """Returns the grid on which maps are compared.

    Args:
        grids (Sequence[Sequence[int]]): (T, H, W) of the student's
            map, then of the ViT teacher's, then of others.
        grid (str): ``'min'``: the element-wise minimum of all;
            ``'student'`` or ``'vit'``: that of this map.
    """
    return dict(
        min=tuple(map(min, *grids)),
        student=tuple(grids[0]),
        vit=tuple(grids[1]),
    )[grid]


def align_grids(maps: Sequence[Tensor], grid: str = 'min') -> List[Tensor]:
    """Resizes maps to one grid.

    Args:
        maps (Sequence[Tensor]): Each (B, C_i, T_i, H_i, W_i): the student's
            first, then the ViT teacher's, then others.
        grid (str): As in :func:`common_grid`.

    Returns:
        list[Tensor]: Each (B, C_i, T, H, W).
    """
    common = common_grid([feature_map.shape[2:] for feature_map in maps], grid)
    return [resize_grid(feature_map, common) for feature_map in maps]
