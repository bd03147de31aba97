"""Heads that answer several questions at once, as verb and noun."""

from typing import List, NamedTuple

import torch.nn as nn
from torch import Tensor


class ClassPart(NamedTuple):
    """A question of its own: a run of the logits and a column of the labels.

    Attributes:
        suffix (str): What it adds to a loss's name; empty for a head with
            one question.
        index (int): Its column in the labels.
        start (int): Its first logit.
        count (int): Its number of classes.
    """

    suffix: str
    index: int
    start: int
    count: int

    def logits_of(self, logits: Tensor) -> Tensor:
        """Its share of (B, N)."""
        return logits[:, self.start : self.start + self.count]

    def labels_of(self, labels: Tensor) -> Tensor:
        """Its labels: (B,) of (B,), of (B, parts) or of mixed (B, N)."""
        if labels.ndim == 1:
            return labels
        if labels.is_floating_point():  # blended: the largest share counts
            return labels.argmax(dim=1)
        return labels[:, self.index]


def class_parts(head: nn.Module, num_classes: int) -> List[ClassPart]:
    """The parts of a head; one without a name for an ordinary head.

    Args:
        head (nn.Module): Has ``class_counts`` (name -> classes) if it
            answers several questions.
        num_classes (int): Width of its logits.
    """
    counts = getattr(head, 'class_counts', {'': num_classes})
    parts, start = [], 0
    for index, (name, count) in enumerate(counts.items()):
        parts.append(
            ClassPart(f'_{name}' if name else '', index, start, count)
        )
        start += count
    return parts
