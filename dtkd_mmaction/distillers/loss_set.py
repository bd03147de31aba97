"""LossSet: any number of losses, each given what its arguments ask for.

A loss says what it needs by the names of its arguments: those of ``forward``
are tensors of the step, those of the constructor are shapes. So a new method
is a class and nothing else (``docs/methods.md``).
"""

import inspect
from typing import Any, Callable, Dict, Optional, Sequence, Set

import torch
import torch.nn as nn
from mmaction.registry import MODELS
from torch import Tensor

from ..recognizers.class_parts import ClassPart, options_of_parts
from ..recognizers.feature_tap import EXTRAS, FeatureTap, Recording

OWNERS = ('student', 'teacher')
# What `forward` may ask for with an owner before it (`student_logits`):
# attributes of a Recording.
RECORDED = ('logits', 'embedding', 'map', 'maps', 'stem', 'clip')
# What it may ask for besides.
OF_THE_BATCH = ('labels', 'sample_ids')
# What a constructor may ask for with an owner before it -> read off the tap.
SHAPES: Dict[str, Callable[[FeatureTap], Any]] = dict(
    shape=lambda tap: tap.shapes['map'],  # (C, T, H, W)
    shapes=lambda tap: tap.shapes['maps'],  # a list of them
    stem_shape=lambda tap: tap.shapes.get('stem'),
    clip_shape=lambda tap: tap.shapes['clip'],
    width=lambda tap: tap.embedding_width,
)


def argument_names(function: Callable) -> Set[str]:
    """Names of a function's arguments, ``self`` aside."""
    return set(inspect.signature(function).parameters) - {'self'}


class LossSet(nn.Module):
    """Losses by name, the teacher of each, and what they read.

    Args:
        losses (dict[str, dict or None]): Name -> loss config. A name becomes
            the key ``loss_<name>`` and the prefix of the loss's monitors.
            ``teacher`` in it says from which teacher, where there are
            several; ``parts``, for a loss on logits, has options of single
            parts (``parts=dict(noun=dict(tau=2.0))``). ``None`` switches an
            inherited loss off.
        teachers (Sequence[str]): Short names of the teachers.
        tap_of (callable): ``'student'`` or a teacher's name -> its tap; asked
            only for the shapes that a loss's constructor wants.
        parts (Sequence[ClassPart]): Of the head. A loss that reads logits is
            built and asked once for each, with its classes alone
            (``loss_<name>_verb``); one that does not, once.

    Raises:
        TypeError, ValueError: If a loss is no dict, asks for something that
            there is not, or names no teacher or an unknown one.
    """

    def __init__(
        self,
        losses: Optional[Dict[str, Optional[dict]]],
        teachers: Sequence[str],
        tap_of: Callable[[str], FeatureTap],
        parts: Sequence[ClassPart],
    ) -> None:
        super().__init__()
        self.losses = nn.ModuleDict()
        self.part_of: Dict[str, ClassPart] = {}
        self.teacher_of: Dict[str, str] = {}
        self.asked: Dict[str, Set[str]] = {}
        for name, config in (losses or {}).items():
            if config is None:
                continue
            key = f'model.losses.{name}'
            if not isinstance(config, dict) or 'type' not in config:
                raise TypeError(
                    f"{key} must be a dict with a 'type', got {config!r}."
                )
            config = dict(config)
            teacher = config.pop('teacher', None)
            if teacher is None and len(teachers) == 1:
                teacher = teachers[0]
            if teacher not in teachers:
                raise ValueError(
                    f'{key}.teacher={teacher!r}: choose one of '
                    f'{list(teachers)}.'
                )
            loss_class = self._find_class(config['type'], key)
            asked = self._read_arguments(loss_class, key)
            reads_logits = {'student_logits', 'teacher_logits'} & asked
            configs = [config]  # of features: the first part stands for all
            if reads_logits:
                configs = options_of_parts(key, config, parts)
            for part, options in zip(parts, configs):
                full_name = name + (part.suffix if reads_logits else '')
                self.losses[full_name] = self._build(
                    options, loss_class, key, teacher, tap_of, part.count
                )
                self.part_of[full_name] = part
                self.teacher_of[full_name] = teacher
                self.asked[full_name] = asked

    def _find_class(self, loss_type: Any, key: str) -> type:
        if not isinstance(loss_type, str):
            return loss_type
        loss_class = MODELS.get(loss_type)
        if loss_class is None:
            raise ValueError(
                f'{key}.type={loss_type!r} is not registered. Losses of '
                'this package end in "Loss" (docs/methods.md); one of your '
                'own must be imported through custom_imports.'
            )
        return loss_class

    def _build(
        self,
        config: dict,
        loss_class: type,
        key: str,
        teacher: str,
        tap_of: Callable[[str], FeatureTap],
        num_classes: int,
    ) -> nn.Module:
        wanted = argument_names(loss_class.__init__) - set(config)
        filled = {}
        if 'num_classes' in wanted:
            filled['num_classes'] = num_classes
        for owner, who in zip(OWNERS, ('student', teacher)):
            for shape, read in SHAPES.items():
                if f'{owner}_{shape}' in wanted:
                    filled[f'{owner}_{shape}'] = read(tap_of(who))
                    if filled[f'{owner}_{shape}'] is None:
                        raise ValueError(
                            f'{key}: the {owner} has no first convolution '
                            'that gives a grid, which '
                            f'{loss_class.__name__} needs.'
                        )
        return MODELS.build(dict(config, **filled))

    def _read_arguments(self, loss_class: type, key: str) -> Set[str]:
        known = {f'{o}_{name}' for o in OWNERS for name in RECORDED}
        known.update(OF_THE_BATCH)
        asked = argument_names(loss_class.forward)
        if asked - known:
            raise TypeError(
                f'{key}: {loss_class.__name__}.forward asks for '
                f'{sorted(asked - known)}; there are {sorted(known)}.'
            )
        return asked

    def needed_teachers(self) -> Set[str]:
        """Teachers that a loss reads in a step."""
        return {
            self.teacher_of[name]
            for name, asked in self.asked.items()
            if any(argument.startswith('teacher_') for argument in asked)
        }

    def quantities_of(self, teacher: str) -> Set[str]:
        """What the losses read of a teacher: some of :data:`RECORDED`."""
        return {
            argument[len('teacher_') :]
            for name, asked in self.asked.items()
            for argument in asked
            if self.teacher_of[name] == teacher
            and argument.startswith('teacher_')
        }

    def extras_of(self, who: str) -> Set[str]:
        """What the tap of the student or of a teacher must record.

        Args:
            who (str): ``'student'`` or a teacher's name.

        Returns:
            set[str]: Names of :data:`~.feature_tap.EXTRAS`.
        """
        return {
            extra
            for name, asked in self.asked.items()
            for extra in EXTRAS
            if (who == 'student' and f'student_{extra}' in asked)
            or (who == self.teacher_of[name] and f'teacher_{extra}' in asked)
        }

    def forward(
        self,
        student: Recording,
        taught: Dict[str, Recording],
        labels: Tensor,
        data_samples: list,
    ) -> Dict[str, Tensor]:
        """All losses and their monitors.

        Args:
            student (Recording): Of the student.
            taught (dict[str, Recording]): Teacher's name -> its recording.
            labels (Tensor): (B,) classes, (B, parts), or (B, N) where
                blending mixed them: the losses then get the class of the
                largest share.
            data_samples (list): B samples.

        Returns:
            dict[str, Tensor]: ``loss_<name>`` and ``<name>/<monitor>``.
        """
        results: Dict[str, Tensor] = {}
        for name, loss in self.losses.items():
            asked, part = self.asked[name], self.part_of[name]
            arguments: Dict[str, Any] = {}
            for owner, recording in (
                ('student', student),
                ('teacher', taught.get(self.teacher_of[name])),
            ):
                for quantity in RECORDED:
                    if f'{owner}_{quantity}' in asked:
                        value = getattr(recording, quantity)
                        if quantity == 'logits':
                            value = part.logits_of(value)
                        arguments[f'{owner}_{quantity}'] = value
            if 'labels' in asked:
                arguments['labels'] = part.labels_of(labels)
            if 'sample_ids' in asked:
                arguments['sample_ids'] = sample_ids(
                    data_samples, labels.device
                )
            results[f'loss_{name}'] = loss(**arguments)
            for monitor, value in getattr(loss, 'monitors', {}).items():
                results[f'{name}/{monitor}'] = value
        return results


def sample_ids(data_samples: list, device: torch.device) -> Tensor:
    """Places of the samples in the data set, (B,).

    Raises:
        KeyError: If the pipeline does not pack them.
    """
    try:
        ids = [sample.metainfo['sample_idx'] for sample in data_samples]
    except KeyError as error:
        raise KeyError(
            'A loss asks for sample_ids, but the samples carry none: use '
            "dataset.type='CheckedVideoDataset', or let train_pipeline end "
            "in dict(type='PackActionInputs', meta_keys=('sample_idx',))."
        ) from error
    return torch.tensor(ids, device=device)
