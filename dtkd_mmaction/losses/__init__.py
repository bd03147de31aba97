"""One method, one file: a pure function and its thin registered class."""

import importlib
import pkgutil

from .at import ATLoss, at_loss
from .cakd import CAKDLoss
from .cc import CCLoss, cc_loss
from .crd import CRDLoss, crd_loss
from .ctkd import CTKDLoss
from .datw import DATWLoss, datw_loss, datw_weights
from .dist import DISTLoss, dist_loss
from .dkd import DKDLoss, dkd_loss
from .fsp import FSPLoss, fsp_loss
from .kd import KDLoss, kd_loss
from .logit_standardisation import standardise_logits
from .mgd import MGDLoss, mgd_loss
from .ofa import OFALoss, ofa_loss
from .pixelkd import PixelKDLoss, pixel_kd_loss
from .reviewkd import ReviewKDLoss, hcl_loss
from .rkd import RKDLoss, rkd_angle_loss, rkd_distance_loss
from .sigmoid_kd import SigmoidKDLoss, sigmoid_kd_loss
from .simkd import simkd_loss
from .structure_discrepancy import (
    StructureDiscrepancyLoss,
    dual_mask,
    structure_discrepancy_loss,
)

# A new file registers its classes by being in this folder.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f'{__name__}.{_module.name}')

__all__ = [
    'ATLoss',
    'CAKDLoss',
    'CCLoss',
    'CRDLoss',
    'CTKDLoss',
    'DATWLoss',
    'DISTLoss',
    'DKDLoss',
    'FSPLoss',
    'KDLoss',
    'MGDLoss',
    'OFALoss',
    'PixelKDLoss',
    'RKDLoss',
    'ReviewKDLoss',
    'SigmoidKDLoss',
    'StructureDiscrepancyLoss',
    'at_loss',
    'cc_loss',
    'crd_loss',
    'datw_loss',
    'datw_weights',
    'dist_loss',
    'dkd_loss',
    'dual_mask',
    'fsp_loss',
    'hcl_loss',
    'kd_loss',
    'mgd_loss',
    'ofa_loss',
    'pixel_kd_loss',
    'rkd_angle_loss',
    'rkd_distance_loss',
    'sigmoid_kd_loss',
    'simkd_loss',
    'standardise_logits',
    'structure_discrepancy_loss',
]
