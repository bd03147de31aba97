"""A loss over the logits of several teachers, for every part of a head."""

import typing
from typing import Callable, Dict, Mapping, Optional, Sequence, Type

import torch
import torch.nn as nn
from mmaction.registry import MODELS
from torch import Tensor

from ..recognizers.class_parts import (
    ClassPart,
    check_multi_label,
    options_of_parts,
)
from ..recognizers.recording import Recording
from .loss_set import TapOf, argument_names, check_log_name, find_loss_class

DEFAULT_TYPE = 'DATWLoss'
# From features (B, D) to logits (B, N).
Classifier = Callable[[Tensor], Tensor]


class FusionLoss(nn.ModuleList):
    """Distils the logits of several teachers, such as ``DATWLoss``.

    Holds one loss per part of the head (one for an ordinary head), or none
    where the config switches it off.

    Args:
        config (dict, optional): Loss config, by default of a ``DATWLoss``;
            ``parts`` in it has options of single parts. None switches the
            loss off.
        key (str): Its config key, such as ``'model.loss_sr'``.
        name (str): Key of its value in the log, such as ``'loss_sr'``.
        teachers (Sequence[str]): Short names of the teachers that it reads.
        parts (Sequence[ClassPart]): Parts of the head.
        multi_label (bool): Whether the head scores every class by itself.
        tap_of (callable): ``'student'`` or a teacher's name -> its tap;
            called only by a loss with layers for the models' features.
        preset (str, optional): Preset of a loss that has presets, where its
            config names none.

    Attributes:
        reads_features (bool): Whether the loss reads the models' embeddings
            and the teachers' classifiers besides their logits.

    Example:
        >>> from types import SimpleNamespace
        >>> import torch
        >>> from dtkd_mmaction.distillers import FusionLoss
        >>> from dtkd_mmaction.recognizers.class_parts import ClassPart
        >>> head = [ClassPart('', index=0, start=0, count=4)]
        >>> fusion = FusionLoss(
        ...     dict(type='DATWLoss'),
        ...     'model.loss_sr',
        ...     'loss_sr',
        ...     ['vit', 'cnn'],
        ...     head,
        ...     multi_label=False,
        ...     tap_of=None,
        ... )
        >>> student, vit, cnn = (
        ...     SimpleNamespace(logits=torch.randn(2, 4)) for _ in range(3)
        ... )
        >>> labels = torch.tensor([0, 3])
        >>> losses = fusion(student, dict(vit=vit, cnn=cnn), labels)
        >>> losses['loss_sr'].shape
        torch.Size([])
    """

    def __init__(
        self,
        config: Optional[dict],
        key: str,
        name: str,
        teachers: Sequence[str],
        parts: Sequence[ClassPart],
        multi_label: bool,
        tap_of: TapOf,
        preset: Optional[str] = None,
    ) -> None:
        super().__init__()
        self.key = key
        self.name = name
        self.parts = parts
        self.teachers = tuple(teachers) if config is not None else ()
        if config is not None:
            config = dict(dict(type=DEFAULT_TYPE), **config)
            loss_class = find_loss_class(config['type'], key)
            check_fuses(loss_class, key)
            check_multi_label(key, loss_class, multi_label)
            if preset is not None and hasattr(loss_class, 'PRESETS'):
                config.setdefault('preset', preset)
            for options in options_of_parts(key, config, parts):
                widths = self._widths(loss_class, options, tap_of)
                self.append(MODELS.build(dict(options, **widths)))
        self.reads_features = any(
            getattr(loss, 'reads_features', False) for loss in self
        )

    def _widths(self, loss_class: type, options: dict, tap_of: TapOf) -> dict:
        """Returns the widths that layers of a loss are built for."""
        needs = getattr(loss_class, 'needs_widths', None)
        if needs is None or not needs(**options):
            return {}
        return dict(
            student_width=tap_of('student').embedding_width,
            teacher_widths={
                name: tap_of(name).embedding_width for name in self.teachers
            },
        )

    def forward(
        self,
        student: Recording,
        teachers: Dict[str, Recording],
        labels: Tensor,
        trust: Optional[Dict[str, Tensor]] = None,
        classifiers: Optional[Mapping[str, Classifier]] = None,
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
            classifiers (dict[str, callable], optional): Short name -> what
                turns embeddings of this teacher into its logits; needed if
                :attr:`reads_features`.

        Returns:
            dict[str, Tensor]: ``<name>`` and the monitors, each with the
                part's suffix (``loss_sr_verb``).
        """
        results: Dict[str, Tensor] = {}
        offered: Dict[str, object] = {}
        factors = None
        if trust is not None and self.teachers:
            factors = torch.stack([trust[name] for name in self.teachers])
            offered['trust'] = factors
        if self.reads_features:
            offered['student_embedding'] = student.embedding
            offered['teacher_embeddings'] = {
                name: teachers[name].embedding for name in self.teachers
            }
        for part, loss in zip(self.parts, self):
            offered['labels'] = part.labels_of(labels)
            if classifiers is not None:
                offered['teacher_classifiers'] = {
                    name: part_of_classifier(part, classifier)
                    for name, classifier in classifiers.items()
                }
            wanted = argument_names(loss.forward)
            value = loss(
                part.logits_of(student.logits),
                {
                    name: part.logits_of(teachers[name].logits)
                    for name in self.teachers
                },
                **{k: v for k, v in offered.items() if k in wanted},
            )
            if factors is not None:
                value = value * factors.max()
            results[f'{self.name}{part.suffix}'] = value
            for monitor, value in getattr(loss, 'monitors', {}).items():
                check_log_name(self.key, monitor)
                results[f'{monitor}{part.suffix}'] = value
        return results


def part_of_classifier(part: ClassPart, classifier: Classifier) -> Classifier:
    """Returns a classifier of one part of the head."""
    return lambda features: part.logits_of(classifier(features))


def check_fuses(loss_class: Type[nn.Module], key: str) -> None:
    """Raises an error if a loss compares with a single teacher.

    Raises:
        TypeError: If the annotation of ``teacher_logits`` is no dict.
    """
    hints = typing.get_type_hints(loss_class.forward)
    if hints.get('teacher_logits', dict) is Tensor:
        raise TypeError(
            f'{key}.type: {loss_class.__name__} compares with one teacher. '
            'Use a loss over several teachers here (docs/methods.md lists '
            'them), or write it in model.losses with a `teacher`.'
        )
