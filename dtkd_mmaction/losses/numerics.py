"""Number type in which the losses compute."""

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Converts half precision to float32; wider types stay.

    Softmax, KL, quantiles and pairwise distances are too inaccurate with the
    10 or 7 mantissa bits of mixed precision.
    """
    if tensor.dtype in (torch.float16, torch.bfloat16):
        return tensor.float()
    return tensor
