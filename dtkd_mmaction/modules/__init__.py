"""Layers that exist in training only, and grid alignment."""

from .clip_corruption import ClipCorruption
from .grid import align_grids, resize_grid
from .projections import TeacherProjections
from .structure_discrepancy_branch import StructureDiscrepancyBranch

__all__ = [
    'ClipCorruption',
    'StructureDiscrepancyBranch',
    'TeacherProjections',
    'align_grids',
    'resize_grid',
]
