"""Logit standardisation (Sun, Ren, Li, Wang and Cao, CVPR 2024).

A preparation of logits, not a loss: losses on logits offer it as their option
``standardise``. The label loss goes on using the raw logits.
"""

from torch import Tensor

from .numerics import at_least_float32

# The official code's guard of the division; constant logits become zeros.
EPS = 1e-7


def standardise_logits(logits: Tensor) -> Tensor:
    """Standardises each sample's logits to mean 0 and deviation 1.

    A loss on the result sees only the shape of the logits, not their offset
    and scale, which a student of less capacity need not copy. Logits of one
    scale are softer than raw ones, which is why the authors go with a
    temperature of 2 and a weight of 9. The gradient flows through mean and
    standard deviation, so it never asks for another offset or scale.

    Args:
        logits (Tensor): (..., N), N > 1.

    Returns:
        Tensor: Like ``logits``, at least float32; the standard deviation is
            the unbiased one (N - 1).
    """
    logits = at_least_float32(logits)
    centred = logits - logits.mean(dim=-1, keepdim=True)
    return centred / (logits.std(dim=-1, keepdim=True) + EPS)
