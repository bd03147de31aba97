"""SimKD: knowledge distillation with the reused teacher classifier.

Chen et al. 2022.
"""

import torch.nn.functional as F
from torch import Tensor

from ..modules.grid import align_grids
from .numerics import at_least_float32


def simkd_loss(projected: Tensor, teacher_map: Tensor) -> Tensor:
    """Computes the mean squared error on the smaller of both grids.

    Args:
        projected (Tensor): The student's, (B, C, T, H, W).
        teacher_map (Tensor): (B, C, T', H', W'). A class token is a map of one
            position; the student's map is then averaged.

    Returns:
        Tensor: Scalar.
    """
    maps = [at_least_float32(x) for x in (projected, teacher_map)]
    return F.mse_loss(*align_grids(maps))
