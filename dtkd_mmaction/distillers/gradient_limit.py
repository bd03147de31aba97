"""Limits the gradient of each distillation term at the student's features."""

from typing import Dict, List, Optional, Sequence, Tuple

import torch
from mmengine import dist
from torch import Tensor

from ..recognizers.class_parts import ClassPart

# Keeps small gradients of float16 features above underflow; it cancels.
SCALE = 1024.0


def gradient_norm_squared(
    term: Tensor, features: Sequence[Tensor]
) -> Optional[Tensor]:
    """Computes the squared norm of a term's gradient at some features.

    Args:
        term (Tensor): Scalar, or logits with their cotangent multiplied in.
        features (Sequence[Tensor]): Tensors of the student's graph.

    Returns:
        Tensor, optional: Scalar in float32, None where the term does not
            depend on the features.
    """
    if not term.requires_grad:
        return None
    gradients = torch.autograd.grad(
        term * SCALE, features, retain_graph=True, allow_unused=True
    )
    found = [g.float().square().sum() for g in gradients if g is not None]
    return sum(found) if found else None


def label_loss_at_chance(
    logits: Tensor, labels: Tensor, parts: Sequence[ClassPart]
) -> Tensor:
    """Returns a scalar with the gradient of cross-entropy at chance.

    It stands for a label loss that has learnt nothing yet, so its gradient
    does not vanish when the student has fitted its clips. An unlabelled clip
    counts as class 0: only the size of the gradient matters.

    Args:
        logits (Tensor): (B, N).
        labels (Tensor): (B,), (B, parts) or mixed (B, N).
        parts (Sequence[ClassPart]): Parts of the head.

    Returns:
        Tensor: Scalar; its value has no meaning.
    """
    total = logits.new_zeros(())
    for part in parts:
        own = part.logits_of(logits)  # (B, classes of the part)
        classes = part.labels_of(labels).clamp(min=0)
        wanted = torch.nn.functional.one_hot(classes, part.count)
        total = total + (own * (1 / part.count - wanted)).sum() / len(own)
    return total


def limit_gradients(
    losses: Dict[str, Tensor],
    names: Sequence[str],
    reference: Tensor,
    features: Sequence[Tensor],
    max_ratio: float,
) -> Tuple[Dict[str, Tensor], Dict[str, Tensor]]:
    """Scales distillation terms down whose gradient is too large.

    A term is multiplied by ``min(1, max_ratio * |reference| / |gradient|)``,
    a constant for the backward pass, with the norms of the whole batch over
    all ranks. So no term can drown the label loss, whatever its weight, the
    architecture or the teacher.

    Args:
        losses (dict[str, Tensor]): All losses of the step.
        names (Sequence[str]): Keys of the distillation terms.
        reference (Tensor): :func:`label_loss_at_chance`.
        features (Sequence[Tensor]): Output of the student's tapped module.
        max_ratio (float): Largest allowed ratio of the norms.

    Returns:
        tuple[dict, dict]: The limited losses, and the ratio of every term
            before it was limited. A term that does not depend on the
            features is left as it is and has no ratio.
    """
    squares: List[Tensor] = []
    found: List[str] = []
    for name, term in (('', reference), *((n, losses[n]) for n in names)):
        square = gradient_norm_squared(term, features)
        if square is not None:
            squares.append(square)
            found.append(name)
    if not found or found[0] != '':
        return losses, {}
    norms = torch.stack(squares)
    if dist.get_world_size() > 1:
        dist.all_reduce(norms)
    norms = norms.sqrt()
    ratios = norms[1:] / norms[0].clamp(min=1e-12)
    factors = (max_ratio / ratios.clamp(min=1e-12)).clamp(max=1)
    limited = dict(losses)
    for name, factor in zip(found[1:], factors):
        limited[name] = losses[name] * factor
    return limited, dict(zip(found[1:], ratios))
