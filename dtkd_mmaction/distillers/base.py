"""Base of all distillers: a student that learns, teachers that are frozen."""

import math
from typing import Dict, Mapping, Optional, Set, Tuple, cast

import torch
import torch.nn as nn
from mmaction.registry import MODELS
from mmengine.model import BaseModel
from torch import Tensor

from ..losses.options import check_ranges
from ..recognizers.class_parts import class_parts, is_multi_label
from ..recognizers.clip_view import model_inputs
from ..recognizers.data_samples import view_keys
from ..recognizers.label_loss import label_losses
from ..recognizers.model_spec import load_weights
from ..recognizers.recording import EXTRAS, OutputShapes, Recording
from ..recognizers.tapped_recognizer import fit_tap
from ..teachers.cache_fingerprint import describe_teacher
from ..teachers.frozen_teacher import FrozenTeacher
from ..teachers.teacher_cache import TeacherCache
from .autocast import autocasts_to_float16, without_autocast
from .finite_losses import FiniteLosses
from .gradient_limit import label_loss_at_chance, limit_gradients
from .loss_set import LossSet, check_log_name
from .shared_clip import SharedClipPreprocessor
from .student import accept_exported_student, build_student
from .teacher_checks import (
    TEACHER_MODES,
    check_same_classes,
    refuse_cache,
    short_name,
    warn_of_equal_weights,
)


class BaseDistiller(BaseModel):
    """A stock student that learns from any number of frozen stock teachers.

    Checkpoints, optimizers and DistributedDataParallel see the student and
    the losses, never a teacher. Teachers are built when training begins (or
    at the first use of :attr:`teachers`), so testing a config neither builds
    nor downloads them.

    A subclass implements :meth:`loss` with :meth:`teach`, :meth:`learn` and
    its losses. In its constructor it adds to :attr:`teacher_quantities` what
    these losses read of each teacher.

    Args:
        student (dict): Model spec (``docs/configs.md``); its ``checkpoint``
            is the initialisation.
        teachers (dict[str, dict]): Config key below ``model``
            (``'vit_teacher'``, ``'teachers.big'``) -> model spec.
        losses (dict[str, dict], optional): Losses of :class:`LossSet`.
        label_weight (float): Factor of the student's stock losses. Defaults
            to 1.0.
        student_transform (dict, optional): A training-only transform of the
            student's raw clips, such as ``dict(type='ClipCorruption')``. The
            teachers see the clips without it.
        teacher_mode (str): ``'eval'`` or ``'bn_eval_only'``, see
            :class:`FrozenTeacher`. Defaults to ``'eval'``.
        teacher_cache (str, optional): Folder that
            ``tools/cache_teachers.py`` wrote for these teachers and this
            data set. With a cache no teacher is built or run.
        num_classes (int, optional): Classes of all heads, if the named
            configs have others.
        max_gradient_ratio (float, optional): Largest gradient of each
            distillation term at the student's tapped features, relative to
            that of a label loss that has learnt nothing
            (:func:`~.gradient_limit.limit_gradients`). Defaults to None: no
            limit, as the methods were published.

    Attributes:
        student (nn.Module): The stock recognizer.
        student_tap (FeatureTap): Its tap.
        num_classes (int): Width of the student's logits.
        parts (list[ClassPart]): Parts of its head, such as verb and noun.
        multi_label (bool): Whether its head scores every class by itself.
        student_quantities (set[str]): Quantities that the losses read of
            the student, attributes of a ``Recording``.
        teacher_specs (dict[str, dict]): Short name (``'vit'``) -> spec.
        teacher_keys (dict[str, str]): Short name -> config key.
        teacher_quantities (dict[str, set[str]]): Short name -> quantities
            that the losses read of this teacher. A teacher without any is
            not run.
        measures_gradients (bool): Whether the gradients of the distillation
            terms are compared in this step although they are not limited.
            Set by ``LabelShareHook``.

    Example:
        >>> import torch
        >>> from mmaction.registry import MODELS
        >>> from mmaction.structures import ActionDataSample
        >>> from dtkd_mmaction.distillers import BaseDistiller
        >>> class Alone(BaseDistiller):
        ...     def loss(self, inputs, data_samples):
        ...         losses, recording = self.learn(inputs, data_samples)
        ...         return losses
        >>> # Any recognizer; 'mmaction::recognition/...py' names a stock one.
        >>> small = dict(
        ...     type='Recognizer3D',
        ...     backbone=dict(type='X3D', gamma_b=2.25, gamma_d=0.2),
        ...     cls_head=dict(type='X3DHead', in_channels=432, num_classes=4),
        ...     data_preprocessor=dict(
        ...         type='ActionDataPreprocessor', format_shape='NCTHW'
        ...     ),
        ... )
        >>> spec = dict(cfg=small, view=dict(frames=4, size=32))
        >>> distiller = Alone(spec, teachers={})
        >>> clips = torch.randint(0, 256, (2, 1, 3, 4, 32, 32))
        >>> samples = [ActionDataSample().set_gt_label(i) for i in range(2)]
        >>> 'loss_cls' in distiller.loss(clips, samples)
        True
    """

    def __init__(
        self,
        student: dict,
        teachers: Dict[str, dict],
        losses: Optional[Mapping[str, Optional[dict]]] = None,
        label_weight: float = 1.0,
        student_transform: Optional[dict] = None,
        teacher_mode: str = 'eval',
        teacher_cache: Optional[str] = None,
        num_classes: Optional[int] = None,
        max_gradient_ratio: Optional[float] = None,
    ) -> None:
        if teacher_mode not in TEACHER_MODES:
            raise ValueError(
                f'model.teacher_mode={teacher_mode!r}: choose one of '
                f'{TEACHER_MODES}.'
            )
        check_ranges(
            'model.',
            label_weight=label_weight,
            max_gradient_ratio=max_gradient_ratio,
        )
        for name, spec in teachers.items():
            FrozenTeacher.check_spec(spec, f'model.{name}')
            check_log_name(f'model.{name}', short_name(name))
        recognizer, view, tap = build_student(
            student, num_classes, 'model.student'
        )
        self._random_state = torch.get_rng_state()

        # A stock config's mixup/CutMix is applied once, to the shared clip.
        preprocessor = recognizer.data_preprocessor
        blending = getattr(preprocessor, 'blending', None)
        if teacher_cache is not None:
            refuse_cache(blending, teacher_mode)
        if blending is not None:
            preprocessor.blending = None
        super().__init__(SharedClipPreprocessor(blending))

        self.student = recognizer
        self.student_spec = student
        self.student_view = view
        self.student_tap = tap
        self.num_classes = tap.num_classes
        self.parts = class_parts(self.student.cls_head, self.num_classes)
        self.multi_label = is_multi_label(self.student.cls_head)
        self.label_weight = label_weight
        self.max_gradient_ratio = max_gradient_ratio
        self.measures_gradients = False
        self.student_transform = (
            MODELS.build(student_transform) if student_transform else None
        )
        if blending is not None and blending.num_classes != self.num_classes:
            raise ValueError(
                'model.student: its data_preprocessor.blending is made for '
                f'{blending.num_classes} classes, its head for '
                f'{self.num_classes}. model.num_classes sets both.'
            )
        self.teacher_keys = {short_name(n): f'model.{n}' for n in teachers}
        self.teacher_specs = {short_name(n): s for n, s in teachers.items()}
        self.teacher_mode = teacher_mode
        self._teachers_num_classes = num_classes
        self._cache_folder = teacher_cache
        self._cache: Optional[TeacherCache] = None
        self._teachers_loaded = False
        self._finite_losses = FiniteLosses()
        self._taps_fit = False
        # Not registered with nn.Module: no teacher may be in the state_dict,
        # the optimizer or DDP.
        self.__dict__['_teachers'] = {}
        # Set by the training loop: some clips have the label -1.
        self.has_unlabelled_clips = False
        # A TeachersAhead, if the training loop runs them one batch ahead.
        self.teachers_ahead = None
        self.losses = LossSet(
            losses,
            list(self.teacher_specs),
            self._tap,
            self.parts,
            self.multi_label,
        )
        self.student_quantities = self.losses.quantities_of('student')
        self.teacher_quantities: Dict[str, Set[str]] = {
            name: self.losses.quantities_of(name)
            for name in self.teacher_specs
        }
        self._register_load_state_dict_pre_hook(accept_exported_student)

    @classmethod
    def exported_student(cls, model: dict, part: str = 'student') -> dict:
        """Returns the spec of the exported model from a distiller's config."""
        return model[part]

    # Teachers

    @property
    def teachers(self) -> Dict[str, FrozenTeacher]:
        """Teachers by short name (``'vit'``, ``'cnn'``), built at first use.

        Raises:
            ValueError: If a teacher cannot be built, cannot be loaded or has
                other classes than the student.
        """
        self.build_teachers()
        if not self._teachers_loaded:
            for name, teacher in self._teachers.items():
                teacher.load_checkpoint()
                warn_of_equal_weights(self.student, name, teacher)
                teacher.apply_speedups()
            self._teachers_loaded = True
        return self._teachers

    def build_teachers(self) -> Dict[str, FrozenTeacher]:
        """Builds the teachers without their weights; shapes are known then."""
        if self._teachers:
            return self._teachers
        device = next(self.student.parameters()).device
        for name, spec in self.teacher_specs.items():
            key = self.teacher_keys[name]
            teacher = FrozenTeacher(
                spec, self._teachers_num_classes, key, self.teacher_mode
            )
            check_same_classes(teacher, self.parts, self.multi_label)
            teacher.recognizer.to(device)
            self._teachers[name] = teacher
        return self._teachers

    @property
    def teacher_cache(self) -> Optional[TeacherCache]:
        """Cache that replaces the teachers, opened at first use.

        Raises:
            FileNotFoundError, ValueError: If it does not exist, is
                incomplete or belongs to other teachers.
        """
        if self._cache is None and self._cache_folder is not None:
            self._cache = TeacherCache(
                self._cache_folder, self.describe_teachers()
            )
        return self._cache

    def describe_teachers(self) -> Dict[str, dict]:
        """Returns everything that the outputs of each teacher depend on."""
        return {
            name: describe_teacher(
                spec, self._teachers_num_classes, self.teacher_keys[name]
            )
            for name, spec in self.teacher_specs.items()
        }

    def _tap(self, who: str) -> OutputShapes:
        """Returns the tap of ``'student'`` or of a teacher.

        With a teacher cache, the teacher's tap is a :class:`CachedTap`.
        """
        if who == 'student':
            return self.student_tap
        if self.teacher_cache is not None:
            return self.teacher_cache.tap(who)
        return self.build_teachers()[who].tap

    def init_weights(self) -> None:
        """Initialises the student, loads checkpoints, builds the teachers.

        For a seed, the student starts from the same weights in every method
        and alone, whatever else was built after it. The runner calls this
        before the first step of a training, and never in a test.
        """
        with torch.random.fork_rng():
            torch.manual_seed(torch.initial_seed())  # of every device
            torch.set_rng_state(self._random_state)
            super().init_weights()
        checkpoint = self.student_spec.get('checkpoint')
        if checkpoint:
            load_weights(self.student, checkpoint, 'model.student')
        if self.teacher_cache is None:
            self.teachers  # noqa: B018  (built and loaded now, not later)

    def has_open_view(self) -> bool:
        """Returns whether a model's clips depend on ``train_pipeline``."""
        specs = [self.student_spec, *self.teacher_specs.values()]
        return any(
            {'frames', 'size'} - set(spec.get('view') or {}) for spec in specs
        )

    def fit_taps(self, clips: Tensor) -> None:
        """Measures models without a ``view`` with the clips of the training.

        Such a model was measured with the clips of its stock config when it
        was built, and gets the clips of ``train_pipeline``.

        Args:
            clips (Tensor): (B, 1, 3, T, H, W), raw; one clip is enough.

        Raises:
            ValueError: If a model or a loss cannot take these clips.
        """
        if self._taps_fit:
            return
        models = [(self.student, self.student_view, self.student_tap)]
        if self.teacher_cache is None and any(
            self.teacher_quantities.values()
        ):
            models += [
                (t.recognizer, t.view, t.tap) for t in self.teachers.values()
            ]
        for recognizer, view, tap in models:
            fit_tap(recognizer, view, tap, clips[:1])
        self.losses.fit_shapes(self._tap)
        self._taps_fit = True

    # One step

    def teach(self, clips: Tensor, data_samples: list) -> Dict[str, Recording]:
        """Returns the teachers' outputs for the shared clips.

        Reads them from the cache, or takes those computed one batch ahead,
        or runs the teachers.

        Args:
            clips (Tensor): (B, 1, 3, T, H, W), raw.
            data_samples (list): B samples; a cache is read by their keys.

        Returns:
            dict[str, Recording]: By short name.
        """
        if self.teacher_cache is not None:
            cached = self.teacher_cache.read(
                view_keys(data_samples), clips.device
            )
            return cast(Dict[str, Recording], cached)  # same quantities
        if self.teachers_ahead is not None:
            outputs = self.teachers_ahead.take(clips)
            if outputs is not None:
                return outputs
        return self.run_teachers(clips)

    def run_teachers(self, clips: Tensor) -> Dict[str, Recording]:
        """Runs the teachers that the losses read."""
        return {
            name: self.teachers[name](clips, quantities.intersection(EXTRAS))
            # In a fixed order, because a teacher may draw random numbers.
            for name, quantities in sorted(self.teacher_quantities.items())
            if quantities
        }

    def learn(
        self, clips: Tensor, data_samples: list
    ) -> Tuple[Dict[str, Tensor], Recording]:
        """Runs the student on its own labels and records its outputs.

        Args:
            clips (Tensor): (B, 1, 3, T, H, W), raw.
            data_samples (list): B samples with labels.

        Returns:
            tuple[dict, Recording]: The stock losses of the student on the
                labelled clips, weighted by ``label_weight``, and its
                recorded outputs for all clips.
        """
        if self.student_transform is not None:
            clips = self.student_transform(clips)
        inputs = model_inputs(
            self.student, self.student_view, clips, data_samples
        )
        extras = self.student_quantities.intersection(EXTRAS)
        with self.student_tap.record(inputs, extras) as recording:
            losses = label_losses(
                self.student,
                inputs,
                data_samples,
                'model.student',
                self.has_unlabelled_clips,
            )
        if self.student.training and torch.is_grad_enabled():
            recording.check_gradient(self.student_quantities)
        if self.label_weight != 1:
            losses = {
                name: value * self.label_weight if 'loss' in name else value
                for name, value in losses.items()
            }
        return losses, recording

    @without_autocast
    def further(
        self,
        student: Recording,
        teachers: Dict[str, Recording],
        labels: Tensor,
        data_samples: list,
    ) -> Dict[str, Tensor]:
        """Computes the losses of the config's ``losses``, and monitors."""
        return self.losses(student, teachers, labels, data_samples)

    def limit(
        self,
        losses: Dict[str, Tensor],
        label_losses: Dict[str, Tensor],
        student: Recording,
        labels: Tensor,
    ) -> Dict[str, Tensor]:
        """Limits the gradient of every distillation term.

        Without ``max_gradient_ratio`` nothing is limited, and the ratios are
        measured in the steps that ask for it.

        Args:
            losses (dict[str, Tensor]): All losses and monitors of the step.
            label_losses (dict[str, Tensor]): The student's own among them.
            student (Recording): Outputs of the student.
            labels (Tensor): Labels of the batch.

        Returns:
            dict[str, Tensor]: ``losses``, limited, and the monitors
                ``gradient/<term>``, the ratios before limiting.
        """
        features = [t for t in student.tapped if t.requires_grad]
        wanted = self.max_gradient_ratio or self.measures_gradients
        if not wanted or not self.label_weight:
            return losses
        if not features or not torch.is_grad_enabled():
            return losses
        losses, ratios = limit_gradients(
            losses,
            [n for n in losses if 'loss' in n and n not in label_losses],
            self.label_weight
            * label_loss_at_chance(student.logits, labels, self.parts),
            features,
            self.max_gradient_ratio or math.inf,
        )
        for name, ratio in ratios.items():
            losses[f'gradient/{name.replace("loss_", "")}'] = ratio
        return losses

    def loss(self, inputs: Tensor, data_samples: list) -> Dict[str, Tensor]:
        """Computes the losses and monitors of one batch."""
        raise NotImplementedError

    def forward(
        self,
        inputs: Tensor,
        data_samples: Optional[list] = None,
        mode: str = 'tensor',
        **kwargs,
    ):
        """Computes losses in mode ``'loss'``; other modes run the student."""
        if mode == 'loss':
            self.fit_taps(inputs)
            self._finite_losses.float16 = autocasts_to_float16(inputs.device)
            return self.loss(inputs, data_samples or [])
        return self.student(inputs, data_samples, mode=mode, **kwargs)

    def parse_losses(self, losses: Dict[str, Tensor]) -> tuple:
        """Sums the losses and checks that each value is finite.

        Raises:
            FloatingPointError: If a loss or a monitor is not finite, with
                its name (:class:`FiniteLosses`). Monitors are checked
                because NaN in a teacher's map empties the masks, so the loss
                itself would be zero.
        """
        total, log_vars = super().parse_losses(losses)
        return self._finite_losses.check(total, log_vars), log_vars

    def val_step(self, data: dict) -> list:
        """Predicts with the student and its own preprocessor."""
        return self.student.val_step(data)

    def test_step(self, data: dict) -> list:
        """Predicts with the student and its own preprocessor."""
        return self.student.test_step(data)

    # Teachers are no submodules, so they are moved here.

    def _apply(self, fn, *args, **kwargs) -> nn.Module:
        for teacher in self._teachers.values():
            teacher._apply(fn, *args, **kwargs)
        return super()._apply(fn, *args, **kwargs)

    def _set_device(self, device: torch.device) -> None:
        for teacher in self._teachers.values():
            teacher.recognizer._set_device(device)
        super()._set_device(device)
