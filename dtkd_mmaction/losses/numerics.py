"""The number type that the losses compute in."""

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision becomes float32, wider types stay as they are.

    Softmax, KL, quantiles and pairwise distances lose their meaning in the
    10 or 7 mantissa bits that automatic mixed precision hands them.
    """
    if tensor.dtype in (torch.float16, torch.bfloat16):
        return tensor.float()
    return tensor
