"""Heads with several parts, such as verb and noun."""

from dataclasses import dataclass
from typing import List, Sequence

import torch.nn as nn
from torch import Tensor


@dataclass(frozen=True)
class ClassPart:
    """One part of a head: a range of logits and a column of the labels.

    Attributes:
        suffix (str): Suffix of the names of its losses; empty for an ordinary
            head.
        index (int): Its column in the labels.
        start (int): Its first logit.
        count (int): Its number of classes.
    """

    suffix: str
    index: int
    start: int
    count: int

    @property
    def name(self) -> str:
        """``verb`` or ``noun``; empty for an ordinary head."""
        return self.suffix[1:]

    def logits_of(self, logits: Tensor) -> Tensor:
        """Returns its logits from all logits (B, N)."""
        return logits[:, self.start : self.start + self.count]

    def labels_of(self, labels: Tensor) -> Tensor:
        """Returns its labels (B,) from (B,), (B, parts) or mixed (B, N)."""
        if labels.ndim == 1:
            return labels
        if labels.is_floating_point():  # blended: the largest share counts
            return labels.argmax(dim=1)
        return labels[:, self.index]


def class_parts(head: nn.Module, num_classes: int) -> List[ClassPart]:
    """Returns the parts of a head; an ordinary head has one without a name.

    Args:
        head (nn.Module): Has ``class_counts`` (name -> classes) if it has
            several parts.
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


def check_same_parts(
    key: str, found: Sequence[ClassPart], wanted: Sequence[ClassPart]
) -> None:
    """Raises an error if the head of another model has other parts.

    Args:
        key (str): Config key of that model.
        found (Sequence[ClassPart]): Parts of its head.
        wanted (Sequence[ClassPart]): Parts of the student's head.

    Raises:
        ValueError: If they differ although the numbers of logits are equal.
    """
    classes, student_classes = (
        {part.name or 'classes': part.count for part in parts}
        for parts in (found, wanted)
    )
    if classes != student_classes:
        raise ValueError(
            f'{key}.cls_head has {classes}, that of model.student has '
            f'{student_classes}. Give both a VerbNounHead with the same '
            'num_classes, or neither.'
        )


def options_of_parts(
    key: str, config: dict, parts: Sequence[ClassPart]
) -> List[dict]:
    """Returns the config of a loss on logits for each part of the head.

    Args:
        key (str): Its config key.
        config (dict): Loss config. Its ``parts``, as in
            ``parts=dict(noun=dict(tau=2.0))``, has options of single parts,
            which override the common ones.
        parts (Sequence[ClassPart]): Parts of the head.

    Returns:
        list[dict]: One config per part, without ``parts``.

    Raises:
        ValueError: If ``parts`` names a part that the head does not have.
    """
    common = {k: v for k, v in config.items() if k != 'parts'}
    special = config.get('parts') or {}
    names = [part.name for part in parts if part.name]
    unknown = sorted(set(special) - set(names))
    if unknown:
        raise ValueError(
            f'{key}.parts names {unknown}; the head of model.student has '
            + (f'the parts {names}.' if names else 'no parts.')
        )
    return [dict(common, **special.get(part.name, {})) for part in parts]


def is_multi_label(head: nn.Module) -> bool:
    """Returns whether a stock head scores every class by itself.

    Its probabilities are then sigmoids that do not sum to one.
    """
    loss = type(getattr(head, 'loss_cls', None)).__name__
    return bool(getattr(head, 'multi_class', False)) or (
        loss in ('BCELossWithLogits', 'HVULoss')
    )


def check_multi_label(key: str, loss_class: type, multi_label: bool) -> None:
    """Raises an error if a loss does not suit a multi-label head.

    Args:
        key (str): Config key of the loss.
        loss_class (type): A loss that reads logits or labels; its attribute
            ``multi_label`` says whether it suits such heads.
        multi_label (bool): Whether the student has such a head.

    Raises:
        ValueError: If the loss compares softmaxes or single labels.
    """
    if multi_label and not getattr(loss_class, 'multi_label', False):
        raise ValueError(
            f'{key}: {loss_class.__name__} is made for classes that exclude '
            'each other, but the head of model.student is multi-label '
            '(multi_class=True or BCELossWithLogits). Use losses that suit '
            "such heads instead: model.losses=dict(kd=dict(type='SigmoidKD"
            "Loss', teacher=...)), or losses that compare features only. "
            'None switches loss_sr off.'
        )
