"""Losses that receive the quantities that their arguments name.

A loss declares what it needs by the names of its arguments: those of
``forward`` are tensors of the step, those of the constructor are shapes. So a
new method is one class (``docs/methods.md``).
"""

import inspect
from typing import Any, Callable, Dict, List, Optional, Sequence, Set

import torch.nn as nn
from mmaction.registry import MODELS
from mmengine.logging import print_log
from torch import Tensor

from ..recognizers.class_parts import ClassPart, options_of_parts
from ..recognizers.data_samples import labelled_rows, sample_ids
from ..recognizers.feature_tap import EXTRAS, FeatureTap, Recording

OWNERS = ('student', 'teacher')
# What `forward` may read with an owner before it (`student_logits`):
# attributes of a Recording.
RECORDED = ('logits', 'embedding', 'map', 'maps', 'stem', 'clip')
# What it may read besides.
OF_THE_BATCH = ('labels', 'sample_ids')
# What a constructor may read with an owner before it -> read off the tap.
SHAPES: Dict[str, Callable[[FeatureTap], Any]] = dict(
    shape=lambda tap: tap.shapes['map'],  # (C, T, H, W)
    shapes=lambda tap: tap.shapes['maps'],  # a list of them
    stem_shape=lambda tap: tap.shapes.get('stem'),
    clip_shape=lambda tap: tap.shapes['clip'],
    width=lambda tap: tap.embedding_width,
)


def argument_names(function: Callable) -> Set[str]:
    """Returns the names of a function's arguments without ``self``."""
    return set(inspect.signature(function).parameters) - {'self'}


class LossSet(nn.Module):
    """Losses by name, the teacher of each, and the quantities they read.

    Args:
        losses (dict[str, dict or None]): Name -> loss config. A name becomes
            the key ``loss_<name>`` and the prefix of the loss's monitors.
            ``teacher`` in a config names its teacher, where there are
            several; ``parts``, for a loss on logits, has options of single
            parts (``parts=dict(noun=dict(tau=2.0))``). ``None`` switches an
            inherited loss off.
        teachers (Sequence[str]): Short names of the teachers.
        tap_of (callable): ``'student'`` or a teacher's name -> its tap;
            called only for the shapes that a loss's constructor reads.
        parts (Sequence[ClassPart]): Parts of the head. A loss that reads
            logits is built and called once per part, with the classes of
            this part (``loss_<name>_verb``); any other loss, once.

    Attributes:
        student_extras (set[str]): Extras (:data:`~.feature_tap.EXTRAS`) that
            the student's tap must record.

    Raises:
        TypeError, ValueError: If a loss is no dict, reads an unknown
            quantity, or names no teacher or an unknown one.
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
        self.arguments_of: Dict[str, Set[str]] = {}
        self._named: Set[str] = set()  # said to leave out unlabelled clips
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
            arguments = self._read_arguments(loss_class, key)
            reads_logits = {'student_logits', 'teacher_logits'} & arguments
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
                self.arguments_of[full_name] = arguments
        self.student_extras = {
            extra
            for arguments in self.arguments_of.values()
            for extra in EXTRAS
            if f'student_{extra}' in arguments
        }

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
        arguments = argument_names(loss_class.forward)
        if arguments - known:
            raise TypeError(
                f'{key}: {loss_class.__name__}.forward has the arguments '
                f'{sorted(arguments - known)}; there are {sorted(known)}.'
            )
        return arguments

    def quantities_of(self, teacher: str) -> Set[str]:
        """Returns what the losses read of a teacher.

        Args:
            teacher (str): Its short name.

        Returns:
            set[str]: Some of :data:`RECORDED`.
        """
        return {
            argument[len('teacher_') :]
            for name, arguments in self.arguments_of.items()
            for argument in arguments
            if self.teacher_of[name] == teacher
            and argument.startswith('teacher_')
        }

    def forward(
        self,
        student: Recording,
        teachers: Dict[str, Recording],
        labels: Tensor,
        data_samples: list,
    ) -> Dict[str, Tensor]:
        """Computes all losses and their monitors.

        Args:
            student (Recording): Outputs of the student.
            teachers (dict[str, Recording]): Outputs of the teachers, by
                short name.
            labels (Tensor): (B,) classes, (B, parts), or (B, N) where
                blending mixed them: the losses then get the class of the
                largest share.
            data_samples (list): B samples.

        Returns:
            dict[str, Tensor]: ``loss_<name>`` and ``<name>/<monitor>``.
        """
        results: Dict[str, Tensor] = {}
        rows = labelled_rows(data_samples)
        for name, loss in self.losses.items():
            wanted, part = self.arguments_of[name], self.part_of[name]
            arguments: Dict[str, Any] = {}
            for owner, recording in (
                ('student', student),
                ('teacher', teachers.get(self.teacher_of[name])),
            ):
                for quantity in RECORDED:
                    if f'{owner}_{quantity}' in wanted:
                        value = getattr(recording, quantity)
                        if quantity == 'logits':
                            value = part.logits_of(value)
                        arguments[f'{owner}_{quantity}'] = value
            if 'labels' in wanted:
                arguments['labels'] = part.labels_of(labels)
            if 'sample_ids' in wanted:
                arguments['sample_ids'] = sample_ids(
                    data_samples, labels.device
                )
            if 'labels' in wanted and rows is not None:
                self._say_that_clips_are_left_out(name)
                arguments = {k: rows_of(v, rows) for k, v in arguments.items()}
            if 'labels' in wanted and rows == []:
                results[f'loss_{name}'] = student.logits.sum() * 0
                continue
            results[f'loss_{name}'] = loss(**arguments)
            for monitor, value in getattr(loss, 'monitors', {}).items():
                results[f'{name}/{monitor}'] = value
        return results

    def _say_that_clips_are_left_out(self, name: str) -> None:
        if name not in self._named:
            self._named.add(name)
            print_log(
                f'model.losses.{name} reads labels: it leaves out the '
                'unlabelled clips (label -1).',
                'current',
            )


def rows_of(value: Any, rows: List[int]) -> Any:
    """Returns some rows of a tensor or of every tensor in a list."""
    if isinstance(value, (list, tuple)):
        return [rows_of(v, rows) for v in value]
    return value[rows]
