"""Losses that receive the quantities that their arguments name.

A loss declares what it needs by the names of its arguments: those of
``forward`` are tensors of the step, those of the constructor are shapes. So a
new method is one class (``docs/methods.md``).
"""

import inspect
from typing import (
    Any,
    Callable,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Type,
)

import torch
import torch.nn as nn
from mmaction.registry import MODELS
from mmengine.logging import print_log
from torch import Tensor

from ..recognizers.class_parts import (
    ClassPart,
    check_multi_label,
    options_of_parts,
)
from ..recognizers.data_samples import labelled_rows, sample_ids
from ..recognizers.recording import OutputShapes, Recording

OWNERS = ('student', 'teacher')
# What `forward` may read with an owner before it (`student_logits`):
# attributes of a Recording.
RECORDED = ('logits', 'embedding', 'map', 'maps', 'stem', 'clip')
# What it may read besides.
OF_THE_BATCH = ('labels', 'sample_ids')
# What a constructor may read with an owner before it -> read off the tap.
SHAPES: Dict[str, Callable[[OutputShapes], Any]] = dict(
    shape=lambda tap: tap.shapes['map'],  # (C, T, H, W)
    shapes=lambda tap: tap.shapes['maps'],  # a list of them
    stem_shape=lambda tap: tap.shapes.get('stem'),
    clip_shape=lambda tap: tap.shapes['clip'],
    width=lambda tap: tap.embedding_width,
)
# 'student' or a teacher's short name -> its tap.
TapOf = Callable[[str], OutputShapes]


def argument_names(function: Callable) -> Set[str]:
    """Returns the names of a function's arguments without ``self``."""
    return set(inspect.signature(function).parameters) - {'self'}


def check_log_name(key: str, name: str) -> None:
    """Raises an error if the log would count a monitor as a loss.

    MMEngine adds every logged value whose name contains "loss" to the total.

    Args:
        key (str): Config key of the loss or the teacher, for messages.
        name (str): Name of a monitor, or a part of it.

    Raises:
        ValueError: If it contains "loss".
    """
    if 'loss' in name:
        raise ValueError(
            f'{key}: the name {name!r} contains "loss", so MMEngine would '
            'add the monitors of this name to the total loss. Choose a name '
            'without "loss"; the value itself is logged as `loss_<name>`.'
        )


class LossBuilder(NamedTuple):
    """Builds one loss from its config and the shapes that it reads.

    Attributes:
        key (str): Config key, for messages.
        config (dict): Loss config.
        loss_class (type): Its class.
        teacher (str): Short name of its teacher.
        num_classes (int): Classes of the part of the head that it reads.
    """

    key: str
    config: dict
    loss_class: Type[nn.Module]
    teacher: str
    num_classes: int

    @property
    def _wanted(self) -> Set[str]:
        return argument_names(self.loss_class) - set(self.config)

    def shapes(self, tap_of: TapOf) -> Dict[str, Any]:
        """Returns the shapes that the constructor reads, by argument.

        Raises:
            ValueError: If a model has no such shape.
        """
        wanted, shapes = self._wanted, {}
        for owner, who in zip(OWNERS, ('student', self.teacher)):
            for shape, read in SHAPES.items():
                argument = f'{owner}_{shape}'
                if argument not in wanted:
                    continue
                shapes[argument] = read(tap_of(who))
                if shapes[argument] is None:
                    raise ValueError(
                        f'{self.key}: the {owner} has no first convolution '
                        'that gives a grid, which '
                        f'{self.loss_class.__name__} needs.'
                    )
        return shapes

    def build(self, shapes: Dict[str, Any]) -> nn.Module:
        """Builds the loss."""
        options = dict(self.config, **shapes)
        if 'num_classes' in self._wanted:
            options['num_classes'] = self.num_classes
        return MODELS.build(options)


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
        multi_label (bool): Whether the head scores every class by itself.
            Losses that assume one class per clip are refused then.

    Raises:
        TypeError, ValueError: If a loss is no dict, has a name with "loss"
            in it, reads an unknown quantity, or names no teacher or an
            unknown one.

    Example:
        >>> from dtkd_mmaction.distillers import LossSet
        >>> from dtkd_mmaction.recognizers.class_parts import ClassPart
        >>> head = [ClassPart('', index=0, start=0, count=4)]
        >>> losses = LossSet(
        ...     dict(kd=dict(type='KDLoss')), ['big'], None, head, False
        ... )
        >>> losses.quantities_of('student'), losses.quantities_of('big')
        ({'logits'}, {'logits'})
    """

    def __init__(
        self,
        losses: Optional[Mapping[str, Optional[dict]]],
        teachers: Sequence[str],
        tap_of: TapOf,
        parts: Sequence[ClassPart],
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        self.losses = nn.ModuleDict()
        self.part_of: Dict[str, ClassPart] = {}
        self.teacher_of: Dict[str, str] = {}
        self.arguments_of: Dict[str, Set[str]] = {}
        self._named: Set[str] = set()  # whose message was logged
        self.builders: Dict[str, LossBuilder] = {}
        self.shapes_of: Dict[str, Dict[str, Any]] = {}
        for name, config in (losses or {}).items():
            if config is None:
                continue
            key = f'model.losses.{name}'
            check_log_name(key, name)
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
            loss_class = find_loss_class(config['type'], key)
            arguments = read_arguments(loss_class, key)
            reads_logits = {'student_logits', 'teacher_logits'} & arguments
            if reads_logits or 'labels' in arguments:
                check_multi_label(key, loss_class, multi_label)
            configs = [config]  # of features: the first part stands for all
            if reads_logits:
                configs = options_of_parts(key, config, parts)
            for part, options in zip(parts, configs):
                full_name = name + (part.suffix if reads_logits else '')
                builder = LossBuilder(
                    key, options, loss_class, teacher, part.count
                )
                shapes = builder.shapes(tap_of)
                self.losses[full_name] = builder.build(shapes)
                self.builders[full_name] = builder
                self.shapes_of[full_name] = shapes
                self.part_of[full_name] = part
                self.teacher_of[full_name] = teacher
                self.arguments_of[full_name] = arguments

    def quantities_of(self, who: str) -> Set[str]:
        """Returns what the losses read of the student or of a teacher.

        Args:
            who (str): ``'student'`` or a teacher's short name.

        Returns:
            set[str]: Some of :data:`RECORDED`.
        """
        prefix = 'student_' if who == 'student' else 'teacher_'
        return {
            argument[len(prefix) :]
            for name, arguments in self.arguments_of.items()
            for argument in arguments
            if who in ('student', self.teacher_of[name])
            and argument.startswith(prefix)
        }

    def fit_shapes(self, tap_of: TapOf) -> None:
        """Builds the losses again whose shapes have changed.

        Their parameters and buffers stay, because the optimizer holds them.

        Args:
            tap_of (callable): As in the constructor.

        Raises:
            ValueError: If a loss has weights of another size then.
        """
        for name, builder in self.builders.items():
            known, shapes = self.shapes_of[name], builder.shapes(tap_of)
            if shapes == known:
                continue
            old = self.losses[name]
            with torch.random.fork_rng(devices=[]):
                new = builder.build(shapes)
            if tensor_sizes(new) != tensor_sizes(old):
                changed = '; '.join(
                    f'{shape} was {known[shape]} and is {value}'
                    for shape, value in shapes.items()
                    if value != known[shape]
                )
                raise ValueError(
                    f'{builder.key}: {type(old).__name__} was built for '
                    'other clips than those of train_pipeline, and the size '
                    f'of its weights depends on them ({changed}). Set the '
                    '`view` (frames and size) of the student and of the '
                    'teacher.'
                )
            for path, module in new.named_modules():
                kept = old.get_submodule(path)
                module._parameters = kept._parameters
                module._buffers = kept._buffers
            self.losses[name] = new.train(old.training)
            self.shapes_of[name] = shapes

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
                check_log_name(self.builders[name].key, monitor)
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


def find_loss_class(loss_type: Any, key: str) -> Type[nn.Module]:
    """Returns the class that a loss config names.

    Raises:
        ValueError: If it is not registered.
    """
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


def read_arguments(loss_class: Type[nn.Module], key: str) -> Set[str]:
    """Returns the arguments of a loss's ``forward``.

    Raises:
        TypeError: If it has one that a step does not offer.
    """
    known = {f'{o}_{name}' for o in OWNERS for name in RECORDED}
    known.update(OF_THE_BATCH)
    arguments = argument_names(loss_class.forward)
    if arguments - known:
        raise TypeError(
            f'{key}: {loss_class.__name__}.forward has the arguments '
            f'{sorted(arguments - known)}; there are {sorted(known)}.'
        )
    return arguments


def tensor_sizes(module: nn.Module) -> Dict[str, torch.Size]:
    """Returns the size of every tensor in a module's state."""
    return {name: x.shape for name, x in module.state_dict().items()}
