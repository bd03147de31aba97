"""The paper's method: two teachers, three losses (Eq. 14)."""

from functools import partial
from typing import Dict, Optional, Set

import torch
import torch.nn as nn
from mmaction.registry import MODELS
from torch import Tensor

from ..losses.structure_discrepancy import Target
from ..modules import StructureDiscrepancyBranch
from ..modules.grid import common_grid, resize_grid
from ..recognizers.class_parts import options_of_parts
from ..recognizers.data_samples import labels_of, view_keys
from ..recognizers.feature_tap import Recording
from .base import BaseDistiller

RKD_TEACHERS = ('vit', 'cnn', 'both')
RKD_FEATURES = ('classifier_input', 'mean_patch')
# The full objective at its default weights.
LOSS_SR = dict(type='DATWLoss', loss_weight=1.0)
LOSS_SD = dict(type='StructureDiscrepancyLoss', loss_weight=1.0)
LOSS_RKD = dict(type='RKDLoss', loss_weight=25.0)
# Eq. 11 as printed ends in squeeze-excitation.
BRANCH_PRESETS = dict(corrected={}, paper_literal=dict(out_proj=False))


@MODELS.register_module()
class DualTeacherDistiller(BaseDistiller):
    """DT-KD: L_cls + alpha L_SR + beta L_SD + gamma L_RKD (Eq. 14).

    Every loss is a dict with a ``loss_weight`` (alpha, beta, gamma), or
    ``None`` to switch it off; one that is left out has its default weight. A
    teacher that no loss needs is not run.

    Args:
        student (dict): Model spec (``docs/configs.md``).
        vit_teacher (dict): Model spec.
        cnn_teacher (dict): Model spec.
        loss_sr (dict, optional): Distillation from both teachers' logits.
            Defaults to :class:`DATWLoss` with weight 1. For a head with
            several parts, ``parts`` in it has options of single ones.
        loss_sd (dict, optional): Distillation of the teachers' feature
            residual. Defaults to :class:`StructureDiscrepancyLoss` with
            weight 1.
        loss_rkd (dict, optional): Relations in the batch. Defaults to
            :class:`RKDLoss` with weight 25.
        branch (dict, optional): Options of
            :class:`StructureDiscrepancyBranch`, which lives only while
            ``loss_sd`` does.
        rkd_teacher (str): Whose relations: ``'vit'``, ``'cnn'`` or
            ``'both'`` (mean of the two). Defaults to ``'vit'``.
        rkd_feature (str): What is related: the ``'classifier_input'`` (class
            token or pooled map) or the ``'mean_patch'`` of the tapped grid.
            Defaults to ``'classifier_input'``.
        preset (str): Preset of ``loss_sr``, ``loss_sd`` and the branch:
            ``'corrected'`` (default) or ``'paper_literal'``.
        losses (dict[str, dict], optional): Further losses, as those of
            :class:`SingleTeacherDistiller`, each with ``teacher='vit'`` or
            ``'cnn'``.
        **options: ``label_weight``, ``student_transform``, ``teacher_mode``,
            ``teacher_cache`` and ``num_classes`` of :class:`BaseDistiller`.
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
        **options,
    ) -> None:
        super().__init__(
            student,
            dict(vit_teacher=vit_teacher, cnn_teacher=cnn_teacher),
            losses=losses,
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
            ('vit', 'cnn') if rkd_teacher == 'both' else (rkd_teacher,)
        )
        self.rkd_feature = rkd_feature
        self.loss_sd = self.loss_rkd = self.branch = None
        self.losses_sr = nn.ModuleList()  # one a part of the head
        if loss_sr is not None:
            loss_sr = dict(dict(type='DATWLoss', preset=preset), **loss_sr)
            self.losses_sr.extend(
                MODELS.build(options)
                for options in options_of_parts(
                    'model.loss_sr', loss_sr, self.parts
                )
            )
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

    @property
    def loss_sr(self) -> Optional[nn.Module]:
        """L_SR of the head, or of its first part; None if it is off."""
        return self.losses_sr[0] if len(self.losses_sr) else None

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
                name: self._tap(name).shapes['map'][0]
                for name in ('vit', 'cnn')
            }
            loss_sd = dict(
                loss_sd,
                channels=dict(widths, student=width),
                num_classes=self.num_classes,
            )
        self.loss_sd = MODELS.build(loss_sd)
        self.branch = StructureDiscrepancyBranch(
            width, self.loss_sd.target_width(width), **branch
        )

    def loss(self, inputs: Tensor, data_samples: list) -> Dict[str, Tensor]:
        """All losses and monitors of one batch.

        Args:
            inputs (Tensor): Raw clips, (B, 1, 3, T, H, W).
            data_samples (list): B samples with labels.

        Returns:
            dict[str, Tensor]: The student's stock losses, ``loss_sr``,
                ``loss_sd``, ``loss_rkd`` (those switched on), ``loss_<name>``
                of the further ones, and monitors, whose names do not contain
                "loss".
        """
        # Teachers first: the student's activations are not there yet.
        taught = self.teach(inputs, data_samples)
        losses, student = self.student_forward(inputs, data_samples)
        labels = labels_of(data_samples, inputs.device)
        float32 = partial(torch.autocast, inputs.device.type, enabled=False)
        if self.loss_sd is not None:
            with float32():
                target = self._target(student, taught, data_samples)
            grid = target.residual.shape[2:]
            predicted = self.branch(resize_grid(student.map, grid))  # Eq. 11

        # Softmax, KL, quantiles and distances in float32 under AMP.
        with float32():
            for part, loss_sr in zip(self.parts, self.losses_sr):
                losses[f'loss_sr{part.suffix}'] = loss_sr(
                    part.logits_of(student.logits),
                    {
                        name: part.logits_of(taught[name].logits)
                        for name in ('vit', 'cnn')
                    },
                )
                for name, value in loss_sr.monitors.items():
                    losses[f'{name}{part.suffix}'] = value
            if self.loss_sd is not None:
                losses['loss_sd'] = self.loss_sd.compare(
                    predicted,
                    target,
                    # only a probe reads them: the first part's
                    labels
                    if len(self.parts) == 1
                    else self.parts[0].labels_of(labels),
                )
                losses.update(self.loss_sd.monitors)
            if self.loss_rkd is not None:
                losses['loss_rkd'] = sum(
                    self.loss_rkd(
                        self._relational_feature(student),
                        self._relational_feature(taught[name]),
                    )
                    for name in self.rkd_teachers
                ) / len(self.rkd_teachers)
            losses.update(self.losses(student, taught, labels, data_samples))
        return losses

    def _target(
        self,
        student: Recording,
        taught: Dict[str, Recording],
        data_samples: list,
    ) -> Target:
        """The teachers' residual and where it counts (Eq. 8 to 10)."""
        cache = self.teacher_cache
        if cache is not None and cache.manifest['maps'] == 'masked':
            residual, mask = cache.read_residual(
                view_keys(data_samples), student.map.device
            )
            return Target(residual, mask)
        width = self.student_tap.shapes['map'][0]
        return self.loss_sd.target(
            taught['vit'].map,
            taught['cnn'].map,
            student.map.shape[2:],
            self.loss_sd.target_width(width),
        )

    def needed_teachers(self) -> Set[str]:
        """As every distiller; both for ``loss_sr`` and ``loss_sd``."""
        if self.loss_sr is not None or self.loss_sd is not None:
            return {'vit', 'cnn'}
        related = self.rkd_teachers if self.loss_rkd is not None else ()
        return super().needed_teachers() | set(related)

    def teacher_quantities(self) -> Dict[str, Set[str]]:
        """As every distiller; ``compared_map`` is the map of ``loss_sd``."""
        found = super().teacher_quantities()
        for name, quantities in found.items():
            if self.loss_sr is not None:
                quantities.add('logits')
            if self.loss_sd is not None:
                quantities.add('compared_map')
            if self.loss_rkd is not None and name in self.rkd_teachers:
                quantities.add(
                    'map' if self.rkd_feature == 'mean_patch' else 'embedding'
                )
        return found

    def compared_on(self, maps: str) -> Optional[dict]:
        """What cached maps depend on besides the teachers.

        Args:
            maps (str): How they are kept,
                :data:`~.teacher_cache.MAPS`.

        Returns:
            dict, optional: None for native maps. The common grid of
                ``loss_sd``; for kept residuals all of its options.

        Raises:
            ValueError: If ``loss_sd`` is off, or its target changes while
                it trains.
        """
        if maps == 'native':
            return None
        if self.loss_sd is None:
            raise ValueError(
                f'maps={maps!r} are kept for model.loss_sd, which is off.'
            )
        shapes = [
            self._tap(who).shapes['map'] for who in ('student', 'vit', 'cnn')
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
