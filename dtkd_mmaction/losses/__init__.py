"""One method, one file: a pure function and its thin registered class."""

from .datw import DATWLoss, datw_loss, datw_weights
from .kd import KDLoss, kd_loss
from .rkd import RKDLoss, rkd_angle_loss, rkd_distance_loss
from .structure_discrepancy import (
    StructureDiscrepancyLoss,
    dual_mask,
    structure_discrepancy_loss,
)

__all__ = [
    'DATWLoss',
    'KDLoss',
    'RKDLoss',
    'StructureDiscrepancyLoss',
    'datw_loss',
    'datw_weights',
    'dual_mask',
    'kd_loss',
    'rkd_angle_loss',
    'rkd_distance_loss',
    'structure_discrepancy_loss',
]
