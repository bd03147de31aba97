"""One method, one file: a pure function and its thin registered class."""

import importlib
import pkgutil

from .aekd import AEKDLoss, aekd_weights
from .at import ATLoss, at_loss
from .average_kd import AverageKDLoss
from .cakd import CAKDLoss
from .camkd import CAMKDLoss, camkd_weights
from .cc import CCLoss, cc_loss
from .crd import CRDLoss, crd_loss
from .ctkd import CTKDLoss
from .datw import DATWLoss, datw_loss, datw_weights
from .dist import DISTLoss, dist_loss
from .dkd import DKDLoss, dkd_loss
from .ebkd import EBKDLoss, ebkd_weights
from .fsp import FSPLoss, fsp_loss
from .kd import KDLoss, kd_loss
from .logit_standardisation import standardise_logits
from .mgd import MGDLoss, mgd_loss
from .ofa import OFALoss, ofa_loss
from .pixelkd import PixelKDLoss, pixel_kd_loss
from .reviewkd import ReviewKDLoss, hcl_loss
from .rkd import RKDLoss, rkd_angle_loss, rkd_distance_loss
from .several_teachers import SeveralTeachersLoss, weighted_kd_loss
from .sigmoid_kd import SigmoidKDLoss, sigmoid_kd_loss
from .simkd import simkd_loss
from .structure_discrepancy import (
    StructureDiscrepancyLoss,
    dual_mask,
    structure_discrepancy_loss,
)
from .unic import UNICDropLoss, unic_weights

# A new file registers its classes by being in this folder.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f'{__name__}.{_module.name}')

__all__ = [
    'AEKDLoss',
    'ATLoss',
    'AverageKDLoss',
    'CAKDLoss',
    'CAMKDLoss',
    'CCLoss',
    'CRDLoss',
    'CTKDLoss',
    'DATWLoss',
    'DISTLoss',
    'DKDLoss',
    'EBKDLoss',
    'FSPLoss',
    'KDLoss',
    'MGDLoss',
    'OFALoss',
    'PixelKDLoss',
    'RKDLoss',
    'ReviewKDLoss',
    'SeveralTeachersLoss',
    'SigmoidKDLoss',
    'StructureDiscrepancyLoss',
    'UNICDropLoss',
    'aekd_weights',
    'at_loss',
    'camkd_weights',
    'cc_loss',
    'crd_loss',
    'datw_loss',
    'datw_weights',
    'dist_loss',
    'dkd_loss',
    'dual_mask',
    'ebkd_weights',
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
    'unic_weights',
    'weighted_kd_loss',
]
