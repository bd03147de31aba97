"""The paper's method: two teachers, three losses (Eq. 14)."""

from typing import Dict, Optional

import torch
import torch.nn as nn
from mmaction.registry import MODELS
from torch import Tensor

from ..losses.structure_discrepancy import Target
from ..modules import StructureDiscrepancyBranch
from ..modules.grid import common_grid
from ..recognizers.class_parts import check_multi_label
from ..recognizers.data_samples import labels_of, view_keys
from ..recognizers.recording import Recording
from .autocast import without_autocast
from .several_teachers import SeveralTeachersDistiller

TEACHERS = ('vit', 'cnn')
RKD_TEACHERS = ('vit', 'cnn', 'both')
RKD_FEATURES = ('classifier_input', 'mean_patch')
# The full objective at its default weights.
LOSS_SR = dict(type='DATWLoss', loss_weight=1.0)
LOSS_SD = dict(type='StructureDiscrepancyLoss', loss_weight=1.0)
LOSS_RKD = dict(type='RKDLoss', loss_weight=1.0)
# Eq. 11 as printed ends in squeeze-excitation.
BRANCH_PRESETS = dict(corrected={}, paper_literal=dict(out_proj=False))
# The paper trusts every teacher and limits no gradient.
TRUST_PRESETS = dict(corrected=True, paper_literal=False)
GRADIENT_PRESETS = dict(corrected=1.0, paper_literal=0)


@MODELS.register_module()
class DualTeacherDistiller(SeveralTeachersDistiller):
    """DT-KD: L_cls + alpha L_SR + beta L_SD + gamma L_RKD (Eq. 14).

    Every loss is a dict with a ``loss_weight`` (alpha, beta, gamma), or
    ``None`` to switch it off; one that is left out has its default weight. A
    teacher that no loss reads is not run.

    Args:
        student (dict): Model spec (``docs/configs.md``).
        vit_teacher (dict): Model spec.
        cnn_teacher (dict): Model spec.
        loss_sr (dict, optional): Distillation from both teachers' logits,
            by any loss over several teachers (``docs/methods.md``). Defaults
            to :class:`DATWLoss` with weight 1. For a head with several
            parts, ``parts`` in it has options of single parts.
        loss_sd (dict, optional): Distillation of the teachers' feature
            residual. Defaults to :class:`StructureDiscrepancyLoss` with
            weight 1.
        loss_rkd (dict, optional): Relations in the batch. Defaults to
            :class:`RKDLoss` with weight 1.
        branch (dict, optional): Options of
            :class:`StructureDiscrepancyBranch`, which is built if
            ``loss_sd`` is on.
        rkd_teacher (str): Teacher of ``loss_rkd``: ``'vit'``, ``'cnn'`` or
            ``'both'`` (mean of the two). Defaults to ``'vit'``.
        rkd_feature (str): Feature of ``loss_rkd``: the
            ``'classifier_input'`` (class token or pooled map) or the
            ``'mean_patch'`` of the tapped grid. Defaults to
            ``'classifier_input'``.
        preset (str): Preset of ``loss_sr``, ``loss_sd`` and the branch:
            ``'corrected'`` (default) or ``'paper_literal'``.
        losses (dict[str, dict], optional): Further losses, as those of
            :class:`SingleTeacherDistiller`, each with ``teacher='vit'`` or
            ``'cnn'``.
        teacher_trust (bool, optional): Whether the three losses are
            multiplied by the accuracy above chance of the teachers that they
            read, measured on the labelled clips (:class:`TeacherTrust`): a
            useless teacher then does no harm. Defaults to the preset's:
            True, for ``'paper_literal'`` False.
        max_gradient_ratio (float, optional): See :class:`BaseDistiller`.
            Defaults to the preset's: 1, for ``'paper_literal'`` 0, which is
            no limit.
        **options: ``label_weight``, ``student_transform``, ``teacher_mode``,
            ``teacher_cache`` and ``num_classes`` of :class:`BaseDistiller`.

    Example:
        >>> import torch
        >>> from mmaction.registry import MODELS
        >>> from mmaction.structures import ActionDataSample
        >>> # Any recognizer; 'mmaction::recognition/...py' names a stock one.
        >>> small = dict(
        ...     type='Recognizer3D',
        ...     backbone=dict(type='X3D', gamma_b=2.25, gamma_d=0.2),
        ...     cls_head=dict(type='X3DHead', in_channels=432, num_classes=4),
        ...     data_preprocessor=dict(
        ...         type='ActionDataPreprocessor', format_shape='NCTHW'
        ...     ),
        ... )
        >>> view = dict(frames=4, size=32)
        >>> distiller = MODELS.build(
        ...     dict(
        ...         type='DualTeacherDistiller',
        ...         student=dict(cfg=small, view=view),
        ...         vit_teacher=dict(cfg=small, checkpoint=None, view=view),
        ...         cnn_teacher=dict(cfg=small, checkpoint=None, view=view),
        ...     )
        ... )
        >>> clips = torch.randint(0, 256, (2, 1, 3, 4, 32, 32))
        >>> samples = [ActionDataSample().set_gt_label(i) for i in range(2)]
        >>> losses = distiller.loss(clips, samples)
        >>> sorted(name for name in losses if 'loss' in name)
        ['loss_cls', 'loss_rkd', 'loss_sd', 'loss_sr']
    """

    def __init__(
        self,
        student: dict,
        vit_teacher: dict,
        cnn_teacher: dict,
        loss_sr: Optional[dict] = LOSS_SR,
        loss_sd: Optional[dict] = LOSS_SD,
        loss_rkd: Optional[dict] = LOSS_RKD,
        branch: Optional[dict] = None,
        rkd_teacher: str = 'vit',
        rkd_feature: str = 'classifier_input',
        preset: str = 'corrected',
        losses: Optional[Dict[str, dict]] = None,
        teacher_trust: Optional[bool] = None,
        max_gradient_ratio: Optional[float] = None,
        **options,
    ) -> None:
        if max_gradient_ratio is None:
            max_gradient_ratio = GRADIENT_PRESETS.get(preset)
        super().__init__(
            student,
            dict(vit_teacher=vit_teacher, cnn_teacher=cnn_teacher),
            losses=losses,
            max_gradient_ratio=max_gradient_ratio,
            **options,
        )
        for option, value, choices in (
            ('rkd_teacher', rkd_teacher, RKD_TEACHERS),
            ('rkd_feature', rkd_feature, RKD_FEATURES),
            ('preset', preset, tuple(BRANCH_PRESETS)),
        ):
            if value not in choices:
                raise ValueError(
                    f'model.{option}={value!r}: choose one of {choices}.'
                )
        self.rkd_teachers = (
            TEACHERS if rkd_teacher == 'both' else (rkd_teacher,)
        )
        self.rkd_feature = rkd_feature
        self.loss_sd: Optional[nn.Module] = None
        self.loss_rkd: Optional[nn.Module] = None
        self.branch: Optional[nn.Module] = None
        self._add_fusion(loss_sr, 'model.loss_sr', 'loss_sr', preset)
        if loss_sd is not None:
            self._build_structure_discrepancy(
                dict(
                    dict(type='StructureDiscrepancyLoss', preset=preset),
                    **loss_sd,
                ),
                {**BRANCH_PRESETS[preset], **(branch or {})},
            )
        if loss_rkd is not None:
            self.loss_rkd = MODELS.build(
                dict(dict(type='RKDLoss'), **loss_rkd)
            )
        self._add_quantities()
        self._add_trust(teacher_trust, default=TRUST_PRESETS[preset])

    def _add_quantities(self) -> None:
        """Adds what L_SD and L_RKD read of the student and the teachers."""
        related = 'map' if self.rkd_feature == 'mean_patch' else 'embedding'
        for name, quantities in self.teacher_quantities.items():
            if self.loss_sd is not None:
                quantities.add('compared_map')  # the map of loss_sd
                self.student_quantities.add('map')
            if self.loss_rkd is not None and name in self.rkd_teachers:
                quantities.add(related)
                self.student_quantities.add(related)

    @property
    def loss_sr(self) -> Optional[nn.Module]:
        """L_SR of the head, or of its first part; None if it is off."""
        return self.fusion[0] if len(self.fusion) else None

    def _build_structure_discrepancy(
        self, loss_sd: dict, branch: dict
    ) -> None:
        width = self.student_tap.shapes['map'][0]
        loss_class = MODELS.get(loss_sd['type'])
        options = {k: v for k, v in loss_sd.items() if k != 'type'}
        if loss_class.needs_channels(**options):
            # Trainable projections belong to the optimizer from the start,
            # so this is the one case that builds teachers here.
            widths = {
                name: self._tap(name).shapes['map'][0] for name in TEACHERS
            }
            loss_sd = dict(
                loss_sd,
                channels=dict(widths, student=width),
                num_classes=self.num_classes,
            )
        self.loss_sd = MODELS.build(loss_sd)
        if self.loss_sd.reads_labels:
            check_multi_label(
                "model.loss_sd with phi='probe'", loss_class, self.multi_label
            )
        self.branch = StructureDiscrepancyBranch(
            width, self.loss_sd.target_width(width), **branch
        )

    def loss(self, inputs: Tensor, data_samples: list) -> Dict[str, Tensor]:
        """Computes all losses and monitors of one batch.

        Args:
            inputs (Tensor): Raw clips, (B, 1, 3, T, H, W).
            data_samples (list): B samples with labels.

        Returns:
            dict[str, Tensor]: The student's stock losses, ``loss_sr``,
                ``loss_sd``, ``loss_rkd`` (those switched on), ``loss_<name>``
                of the further ones, and monitors, whose names do not contain
                "loss".
        """
        # Teachers first: the student holds no activations yet.
        teachers = self.teach(inputs, data_samples)
        label_losses, student = self.learn(inputs, data_samples)
        labels = labels_of(data_samples, inputs.device)
        trust = self.trust(teachers, labels) if self.trust else None
        losses = dict(label_losses)
        losses.update(self.logits(student, teachers, labels, trust))
        losses.update(
            self.structure(student, teachers, labels, data_samples, trust)
        )
        losses.update(self.relations(student, teachers, trust))
        losses.update(self.further(student, teachers, labels, data_samples))
        losses = self.limit(losses, label_losses, student, labels)
        losses.update({f'trust/{n}': v for n, v in (trust or {}).items()})
        return losses

    def structure(
        self,
        student: Recording,
        teachers: Dict[str, Recording],
        labels: Tensor,
        data_samples: list,
        trust: Optional[Dict[str, Tensor]],
    ) -> Dict[str, Tensor]:
        """L_SD: the branch predicts the teachers' residual (Eq. 8 to 12).

        Returns:
            dict[str, Tensor]: ``loss_sd`` and its monitors.
        """
        if self.loss_sd is None:
            return {}
        cache = self.teacher_cache
        if cache is not None and cache.manifest['maps'] == 'masked':
            target = Target(
                *cache.read_residual(view_keys(data_samples), labels.device)
            )
        else:
            target = self.loss_sd.target(
                teachers['vit'].map,
                teachers['cnn'].map,
                student.map.shape[2:],
                self.loss_sd.target_width(student.map.shape[1]),
            )
        # Only phi='probe' reads labels: those of the first part.
        if len(self.parts) > 1:
            labels = self.parts[0].labels_of(labels)
        value = self.loss_sd.predict_and_compare(
            self.branch, student.map, target, labels
        )
        if trust is not None:  # a difference is as good as the worse teacher
            value = value * torch.minimum(trust['vit'], trust['cnn'])
        return dict(loss_sd=value, **self.loss_sd.monitors)

    @without_autocast
    def relations(
        self,
        student: Recording,
        teachers: Dict[str, Recording],
        trust: Optional[Dict[str, Tensor]],
    ) -> Dict[str, Tensor]:
        """L_RKD: distances between the clips of a batch (Eq. 13).

        Returns:
            dict[str, Tensor]: ``loss_rkd``.
        """
        if self.loss_rkd is None:
            return {}
        values = [
            self.loss_rkd(
                self._relational_feature(student),
                self._relational_feature(teachers[name]),
            )
            * (trust[name] if trust is not None else 1)
            for name in self.rkd_teachers
        ]
        return dict(loss_rkd=sum(values) / len(values))

    def cached_map_options(self, maps: str) -> Optional[dict]:
        """Returns the options that cached maps depend on.

        Args:
            maps (str): How the cache stores them, one of
                :data:`~.teacher_cache.MAPS`.

        Returns:
            dict, optional: None for native maps. The common grid of
                ``loss_sd``; for stored residuals all of its options.

        Raises:
            ValueError: If ``loss_sd`` is off, or its target changes while
                it trains.
        """
        if maps == 'native':
            return None
        if self.loss_sd is None:
            raise ValueError(
                f'maps={maps!r} are stored for model.loss_sd, which is off.'
            )
        shapes = [
            self._tap(who).shapes['map'] for who in ('student', *TEACHERS)
        ]
        grid = common_grid([shape[1:] for shape in shapes], self.loss_sd.grid)
        if maps == 'student_grid':
            return dict(grid=list(grid))
        return dict(
            grid=list(grid),
            width=shapes[0][0],
            **self.loss_sd.fixed_target_options(),
        )

    def _relational_feature(self, recording: Recording) -> Tensor:
        if self.rkd_feature == 'mean_patch':
            return recording.map.mean(dim=(2, 3, 4))
        return recording.embedding
