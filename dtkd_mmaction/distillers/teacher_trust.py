"""Measures how much the teachers know about the labels of this run."""

from typing import Dict, Sequence

import torch
import torch.nn as nn
from mmengine import dist
from torch import Tensor

from ..recognizers.class_parts import ClassPart
from ..recognizers.recording import Recording


def accuracy_above_chance(
    correct: Tensor, seen: Tensor, num_classes: int
) -> Tensor:
    """Computes the accuracy above chance, scaled to [0, 1].

    ``(accuracy - 1 / N) / (1 - 1 / N)``, not below 0. One additional clip at
    chance is counted, so that the first batch does not decide alone.

    Args:
        correct (Tensor): Number of correct predictions per teacher, (K,).
        seen (Tensor): Number of labelled clips, scalar.
        num_classes (int): N.

    Returns:
        Tensor: (K,) in [0, 1]; 1 if no labelled clip was seen yet.
    """
    chance = 1 / num_classes
    accuracy = (correct + chance) / (seen + 1)
    trust = ((accuracy - chance) / (1 - chance)).clamp(min=0)
    return torch.where(seen > 0, trust, torch.ones_like(trust))


class TeacherTrust(nn.Module):
    """Running accuracy above chance of each teacher on the labelled clips.

    The paper assumes good teachers. A teacher that knows nothing about these
    classes would only disturb the student, so its losses are multiplied by
    its trust (``docs/design_choices.md``). Counts are in the state dict, so a
    resumed run continues with them, and are summed over all ranks.

    Args:
        teachers (Sequence[str]): Short names.
        parts (Sequence[ClassPart]): Parts of the head. The trust is the mean
            over the parts.
    """

    def __init__(
        self, teachers: Sequence[str], parts: Sequence[ClassPart]
    ) -> None:
        super().__init__()
        self.teachers = tuple(teachers)
        self.parts = tuple(parts)
        # One row per part: correct predictions of each teacher.
        self.register_buffer('correct', torch.zeros(len(parts), len(teachers)))
        self.register_buffer('seen', torch.zeros(len(parts), 1))
        self._register_load_state_dict_pre_hook(self._accept_no_counts)

    def _accept_no_counts(
        self, state_dict: Dict[str, Tensor], prefix: str, *_
    ) -> None:
        """Lets checkpoints from before this module load."""
        for name, counts in self.named_buffers():
            state_dict.setdefault(f'{prefix}{name}', counts.clone())

    @torch.no_grad()
    def forward(
        self, teachers: Dict[str, Recording], labels: Tensor
    ) -> Dict[str, Tensor]:
        """Counts one batch and returns the trust so far.

        Args:
            teachers (dict[str, Recording]): Outputs of the teachers.
            labels (Tensor): (B,), (B, parts) or mixed (B, N); negative
                labels are not counted.

        Returns:
            dict[str, Tensor]: Short name -> scalar in [0, 1].
        """
        counts = torch.zeros(
            len(self.parts), 1 + len(self.teachers), device=labels.device
        )
        for row, part in enumerate(self.parts):
            wanted = part.labels_of(labels)
            counts[row, 0] = (wanted >= 0).sum()
            for column, name in enumerate(self.teachers, 1):
                logits = part.logits_of(teachers[name].logits)
                counts[row, column] = (logits.argmax(dim=1) == wanted).sum()
        dist.all_reduce(counts)
        self.seen += counts[:, :1]
        self.correct += counts[:, 1:]
        trust = torch.stack(
            [
                accuracy_above_chance(correct, seen, part.count)
                for correct, seen, part in zip(
                    self.correct, self.seen, self.parts
                )
            ]
        ).mean(dim=0)
        return dict(zip(self.teachers, trust))
