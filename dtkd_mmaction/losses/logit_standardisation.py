"""Logit standardisation (Sun, Ren, Li, Wang and Cao, CVPR 2024).

It is not a loss: losses on logits have it as their option ``standardise``. The
    label loss uses the raw logits.
"""

from torch import Tensor

from .numerics import at_least_float32

# Avoids a division by 0, as in the official code; constant logits become 0.
EPS = 1e-7


def standardise_logits(logits: Tensor) -> Tensor:
    """Standardises each sample's logits to mean 0 and deviation 1.

    A loss on the result sees only the shape of the logits, not their offset
    and scale, which a student of less capacity need not copy. Standardised
    logits are softer than raw ones, so the authors use a temperature of 2 and
    a weight of 9. The gradient includes the mean and the standard deviation,
    so it never changes the offset or the scale.

    Args:
        logits (Tensor): (..., N), N > 1.

    Returns:
        Tensor: Like ``logits``, at least float32; the standard deviation is
            the unbiased one (N - 1).
    """
    logits = at_least_float32(logits)
    centred = logits - logits.mean(dim=-1, keepdim=True)
    return centred / (logits.std(dim=-1, keepdim=True) + EPS)
