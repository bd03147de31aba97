"""A loss over the logits of several teachers, for every part of a head."""

from typing import Dict, Optional, Sequence

import torch
import torch.nn as nn
from mmaction.registry import MODELS
from torch import Tensor

from ..recognizers.class_parts import (
    ClassPart,
    check_multi_label,
    options_of_parts,
)
from ..recognizers.feature_tap import Recording
from .loss_set import argument_names, check_log_name


class FusionLoss(nn.ModuleList):
    """Distils the logits of several teachers, such as ``DATWLoss``.

    Holds one loss per part of the head (one for an ordinary head), or none
    where the config switches it off.

    Args:
        config (dict, optional): Loss config; ``parts`` in it has options of
            single parts. None switches the loss off.
        name (str): Key of its value in the log, such as ``'loss_sr'``, also
            its config key below ``model``.
        teachers (Sequence[str]): Short names of the teachers that it reads.
        parts (Sequence[ClassPart]): Parts of the head.
        multi_label (bool): Whether the head scores every class by itself.
    """

    def __init__(
        self,
        config: Optional[dict],
        name: str,
        teachers: Sequence[str],
        parts: Sequence[ClassPart],
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.parts = parts
        self.teachers = tuple(teachers) if config is not None else ()
        if config is not None:
            self.extend(
                MODELS.build(options)
                for options in options_of_parts(f'model.{name}', config, parts)
            )
        for loss in self:
            check_multi_label(f'model.{name}', type(loss), multi_label)
        self.reads_labels = any(
            'labels' in argument_names(loss.forward) for loss in self
        )
        self.reads_trust = any(
            'trust' in argument_names(loss.forward) for loss in self
        )

    def forward(
        self,
        student: Recording,
        teachers: Dict[str, Recording],
        labels: Tensor,
        trust: Optional[Dict[str, Tensor]] = None,
    ) -> Dict[str, Tensor]:
        """Computes the loss of every part and its monitors.

        Args:
            student (Recording): Outputs of the student.
            teachers (dict[str, Recording]): Outputs of the teachers, by
                short name.
            labels (Tensor): (B,), (B, parts) or mixed (B, N).
            trust (dict[str, Tensor], optional): Short name -> factor of the
                teacher. The loss is multiplied by the largest, and a loss
                that weighs its teachers, such as ``DATWLoss``, receives all.

        Returns:
            dict[str, Tensor]: ``<name>`` and the monitors, each with the
                part's suffix (``loss_sr_verb``).
        """
        results: Dict[str, Tensor] = {}
        factors = None
        if trust is not None and self.teachers:
            factors = torch.stack([trust[name] for name in self.teachers])
        for part, loss in zip(self.parts, self):
            extra = {}
            if self.reads_labels:
                extra['labels'] = part.labels_of(labels)
            if self.reads_trust:
                extra['trust'] = factors
            value = loss(
                part.logits_of(student.logits),
                {
                    name: part.logits_of(teachers[name].logits)
                    for name in self.teachers
                },
                **extra,
            )
            if factors is not None:
                value = value * factors.max()
            results[f'{self.name}{part.suffix}'] = value
            for monitor, value in getattr(loss, 'monitors', {}).items():
                check_log_name(f'model.{self.name}', monitor)
                results[f'{monitor}{part.suffix}'] = value
        return results
