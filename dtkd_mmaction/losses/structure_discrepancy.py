"""Structure Discrepancy-Aware Distillation (section 3.4, Eq. 8 to 10, 12).

In order: masks (Eq. 9 and 10), their intersection, the masked squared error
    (Eq. 12), and the class, whose forward is section 3.4 without the branch
    (``modules/structure_discrepancy_branch.py``, Eq. 11).
"""

from typing import Callable, Dict, NamedTuple, Optional, Tuple

import torch
import torch.nn as nn
from mmaction.registry import MODELS
from mmengine.logging import print_log
from torch import Tensor

from ..modules.grid import GRIDS, common_grid, resize_grid
from ..modules.projections import NORMS, PROJECTIONS, TeacherProjections
from .numerics import at_least_float32
from .options import check_choice, check_ranges, preset_options

RES_SCORES = ('l2', 'mean_abs', 'signed_mean', 'elementwise')
ACT_SCORES = ('mean', 'mean_abs', 'mean_sq')
QUANTILE_SCOPES = ('sample', 'frame', 'batch')
MASK_COMBINES = ('and', 'or', 'res', 'act', 'none')
EMPTY_POLICIES = ('fallback_res', 'skip')
REDUCTIONS = ('masked_mean', 'sum_per_sample', 'mean_all')
# A residual with less than this fraction of its first variance has collapsed.
COLLAPSED = 0.05


class Target(NamedTuple):
    """Target of the branch.

    Attributes:
        residual (Tensor): (B, C, T, H, W).
        mask (Tensor): Positions that are trained, (B, 1 or C, T, H, W).
        projected (tuple[Tensor, Tensor], optional): phi_ViT and phi_CNN of the
            teachers' maps, each (B, C, T, H, W). None if the residual comes
            from a masked cache; it is then 0 outside the mask.
    """

    residual: Tensor
    mask: Tensor
    projected: Optional[Tuple[Tensor, Tensor]] = None


def residual_score(residual: Tensor, kind: str) -> Tensor:
    """Computes the score that Eq. 9 compares with a quantile.

    Args:
        residual (Tensor): (B, C, T, H, W).
        kind (str): ``'l2'``: norm over channels; ``'mean_abs'``;
            ``'signed_mean'``: mean over channels, which favours positive
            differences; ``'elementwise'``: the signed value itself, with a
            separate mask for every channel.

    Returns:
        Tensor: (B, 1, T, H, W), or (B, C, T, H, W) for ``'elementwise'``.
    """
    check_choice('residual_score', 'kind', kind, RES_SCORES)
    residual = at_least_float32(residual)
    if kind == 'elementwise':
        return residual
    if kind == 'l2':
        return residual.norm(dim=1, keepdim=True)
    if kind == 'mean_abs':
        return residual.abs().mean(dim=1, keepdim=True)
    return residual.mean(dim=1, keepdim=True)


def activation_score(f_cnn: Tensor, kind: str) -> Tensor:
    """Computes the score of Eq. 10: a mean over the CNN teacher's channels.

    Args:
        f_cnn (Tensor): Map of the CNN teacher, (B, C, T, H, W).
        kind (str): ``'mean'`` of the values, ``'mean_abs'`` or ``'mean_sq'``.

    Returns:
        Tensor: (B, 1, T, H, W).
    """
    check_choice('activation_score', 'kind', kind, ACT_SCORES)
    f_cnn = at_least_float32(f_cnn)
    if kind == 'mean_abs':
        f_cnn = f_cnn.abs()
    elif kind == 'mean_sq':
        f_cnn = f_cnn.square()
    return f_cnn.mean(dim=1, keepdim=True)


def quantile_mask(
    score: Tensor, quantile: float, scope: str, keep_constant: bool = True
) -> Tensor:
    """Selects positions above the quantile of their scope (Eq. 9 and 10).

    Args:
        score (Tensor): (B, C, T, H, W).
        quantile (float): zeta or rho, in [0, 1].
        scope (str): Positions that share a threshold: those of a
            ``'sample'``, a ``'frame'`` or the whole ``'batch'``; channels
            never share one.
        keep_constant (bool): Whether positions equal to the quantile are kept
            if none is above it, as for a constant score. Defaults to True; the
            printed equation keeps none.

    Returns:
        Tensor: Boolean, like ``score``.
    """
    check_choice('quantile_mask', 'scope', scope, QUANTILE_SCOPES)
    score = at_least_float32(score)
    batch, channels, frames, height, width = score.shape
    if scope == 'batch':
        rows = score.transpose(0, 1).reshape(1, channels, -1)
    elif scope == 'sample':
        rows = score.reshape(batch, channels, -1)
    else:
        rows = score.reshape(batch, channels * frames, -1)
    threshold = torch.quantile(rows, quantile, dim=2, keepdim=True)
    above = rows > threshold
    if keep_constant:
        above = torch.where(
            above.any(dim=2, keepdim=True), above, rows >= threshold
        )
    if scope == 'batch':
        above = above.reshape(
            channels, batch, frames, height, width
        ).transpose(0, 1)
    return above.reshape(score.shape)


def dual_mask(
    residual: Tensor,
    f_cnn: Tensor,
    zeta: float = 0.5,
    rho: float = 0.5,
    res_score: str = 'l2',
    act_score: str = 'mean',
    quantile_scope: str = 'sample',
    mask_combine: str = 'and',
    empty: str = 'fallback_res',
) -> Tensor:
    """Computes the mask of the residual, M_res and M_act (Eq. 9 and 10).

    Args:
        residual (Tensor): (B, C, T, H, W).
        f_cnn (Tensor): The CNN teacher's own map, (B, C_cnn, T, H, W).
        zeta (float): Quantile of the residual's score. Defaults to 0.5.
        rho (float): Quantile of the activation's score. Defaults to 0.5.
        res_score (str): See :func:`residual_score`.
        act_score (str): See :func:`activation_score`.
        quantile_scope (str): See :func:`quantile_mask`.
        mask_combine (str): ``'and'`` (paper), ``'or'``, one mask alone
            (``'res'``, ``'act'``), or ``'none'``: every position.
        empty (str): For a sample whose masks do not overlap:
            ``'fallback_res'`` uses M_res alone, and a constant score keeps all
            positions; ``'skip'`` keeps nothing, as printed.

    Returns:
        Tensor: Boolean, (B, 1, T, H, W) or, for an elementwise residual
            score, (B, C, T, H, W).
    """
    check_choice('dual_mask', 'mask_combine', mask_combine, MASK_COMBINES)
    check_choice('dual_mask', 'empty', empty, EMPTY_POLICIES)
    scope = (quantile_scope, empty == 'fallback_res')
    residual_mask = quantile_mask(
        residual_score(residual, res_score), zeta, *scope
    )
    if mask_combine == 'none':
        return torch.ones_like(residual_mask)
    if mask_combine == 'res':
        return residual_mask
    activation_mask = quantile_mask(
        activation_score(f_cnn, act_score), rho, *scope
    )
    if mask_combine == 'act':
        return activation_mask
    if mask_combine == 'or':
        return residual_mask | activation_mask
    mask = residual_mask & activation_mask
    if empty == 'fallback_res':
        is_empty = ~mask.flatten(1).any(dim=1)
        mask = torch.where(
            is_empty[:, None, None, None, None], residual_mask, mask
        )
    return mask


def structure_discrepancy_loss(
    predicted: Tensor,
    residual: Tensor,
    mask: Tensor,
    reduction: str = 'masked_mean',
) -> Tensor:
    """Computes the masked squared error of the predicted residual (Eq. 12).

    Args:
        predicted (Tensor): (B, C, T, H, W).
        residual (Tensor): (B, C, T, H, W).
        mask (Tensor): Boolean, (B, 1 or C, T, H, W).
        reduction (str): ``'masked_mean'``: mean over the kept elements of
            each sample, so 1 for a unit error under any mask;
            ``'sum_per_sample'``: their sum, as printed; ``'mean_all'``:
            their sum over the number of all elements. Then the mean over
            samples; one without a kept element counts as 0.

    Returns:
        Tensor: Scalar.
    """
    check_choice(
        'structure_discrepancy_loss', 'reduction', reduction, REDUCTIONS
    )
    error = at_least_float32(predicted) - at_least_float32(residual)
    kept = mask.expand_as(error).flatten(1)
    # where instead of a product: infinite errors outside the mask are ignored
    per_sample = torch.where(kept, error.flatten(1), 0).square().sum(dim=1)
    if reduction == 'masked_mean':
        per_sample = per_sample / kept.sum(dim=1).clamp(min=1)
    elif reduction == 'mean_all':
        per_sample = per_sample / kept.shape[1]
    return per_sample.mean()


@MODELS.register_module()
class StructureDiscrepancyLoss(nn.Module):
    """L_SD: error of the branch in predicting the teachers' residual.

    Args:
        loss_weight (float): beta of Eq. 14. Defaults to 1.0.
        preset (str): The options to start from, a key of :attr:`PRESETS`:
            ``'corrected'`` (default) or ``'paper_literal'``.
        channels (dict, optional): Widths ``student``, ``vit`` and ``cnn``;
            only for a ``phi`` that trains. The distiller fills it in.
        num_classes (int, optional): Only for ``phi='probe'``; the distiller
            fills it in.
        **options: Any key of a preset, to override it: ``zeta``, ``rho``,
            ``res_score``, ``act_score``, ``quantile_scope``,
            ``mask_combine`` and ``empty`` as in :func:`dual_mask`,
            ``reduction`` as in :func:`structure_discrepancy_loss`, ``phi``
            and ``feat_norm`` as in
            :class:`~dtkd_mmaction.modules.TeacherProjections`, ``grid`` as
            in :func:`~dtkd_mmaction.modules.align_grids`.

    Attributes:
        monitors (dict): After a call, ``mask_kept`` (fraction of positions)
            and ``residual_var`` (variance of the target: near zero means
            that it has collapsed).

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import StructureDiscrepancyLoss
        >>> f_vit = torch.randn(2, 12, 4, 7, 7)
        >>> f_cnn = torch.randn(2, 16, 4, 7, 7)
        >>> predicted = torch.randn(2, 8, 4, 7, 7)
        >>> StructureDiscrepancyLoss()(predicted, f_vit, f_cnn).shape
        torch.Size([])
    """

    _SHARED = dict(
        zeta=0.5,
        rho=0.5,
        act_score='mean',
        quantile_scope='sample',
        mask_combine='and',
        grid='min',
    )
    PRESETS: Dict[str, dict] = dict(
        corrected=dict(
            **_SHARED,
            res_score='l2',
            empty='fallback_res',
            phi='frozen_orthogonal',
            feat_norm='layernorm_noaffine',
            reduction='masked_mean',
        ),
        paper_literal=dict(
            **_SHARED,
            res_score='signed_mean',
            empty='skip',
            phi='learnable',
            feat_norm='none',
            reduction='sum_per_sample',
        ),
    )

    def __init__(
        self,
        loss_weight: float = 1.0,
        preset: str = 'corrected',
        channels: Optional[Dict[str, int]] = None,
        num_classes: Optional[int] = None,
        **options,
    ) -> None:
        super().__init__()
        name = 'StructureDiscrepancyLoss'
        options = preset_options(name, self.PRESETS, preset, options)
        check_ranges(name, loss_weight=loss_weight, **options)
        for option, choices in (
            ('res_score', RES_SCORES),
            ('act_score', ACT_SCORES),
            ('quantile_scope', QUANTILE_SCOPES),
            ('mask_combine', MASK_COMBINES),
            ('empty', EMPTY_POLICIES),
            ('reduction', REDUCTIONS),
            ('grid', GRIDS),
            ('phi', PROJECTIONS),
            ('feat_norm', NORMS),
        ):
            check_choice(name, option, options[option], choices)
        if (
            options['res_score'] == 'signed_mean'
            and options['feat_norm'] == 'layernorm_noaffine'
        ):
            raise ValueError(
                f"{name}(res_score='signed_mean'): with "
                "feat_norm='layernorm_noaffine' the mean over channels is 0 "
                "at every position. Use feat_norm='none' or 'running_std'."
            )
        self.loss_weight = loss_weight
        self.grid = options.pop('grid')
        self.reduction = options.pop('reduction')
        self.projections = TeacherProjections(
            options.pop('phi'), options.pop('feat_norm'), channels, num_classes
        )
        self.mask_options = options
        self._first_variance: Optional[float] = None
        self.monitors: Dict[str, Tensor] = {}

    @classmethod
    def needs_channels(cls, preset: str = 'corrected', **options) -> bool:
        """Returns whether these options need the teachers' widths."""
        options = {**cls.PRESETS.get(preset, {}), **options}
        return TeacherProjections.needs_channels(
            options.get('phi'), options.get('feat_norm')
        )

    @property
    def reads_labels(self) -> bool:
        """Returns whether its projections are trained with the labels."""
        return self.projections.mode == 'probe'

    def target_width(self, student_channels: int) -> int:
        """Returns the number of channels of the residual."""
        if self.projections.mode == 'predictive':
            return self.projections.cnn.out_channels
        return student_channels

    def forward(
        self,
        predicted: Tensor,
        f_vit: Tensor,
        f_cnn: Tensor,
        labels: Optional[Tensor] = None,
    ) -> Tensor:
        """Computes the weighted :func:`structure_discrepancy_loss`.

        Args:
            predicted (Tensor): The branch's output, (B, C, T, H, W).
            f_vit (Tensor): The ViT teacher's map, (B, C_vit, T', H', W').
            f_cnn (Tensor): The CNN teacher's map, (B, C_cnn, T'', H'', W'').
            labels (Tensor, optional): (B,), only for ``phi='probe'``.

        Returns:
            Tensor: Scalar; if phi has its own loss, it is added (and trains
                only phi).
        """
        target = self.target(
            f_vit, f_cnn, predicted.shape[2:], predicted.shape[1]
        )
        return self.compare(predicted, target, labels)

    def target(
        self,
        f_vit: Tensor,
        f_cnn: Tensor,
        student_grid: Tuple[int, int, int],
        width: int,
    ) -> Target:
        """Projects the teachers' maps, subtracts and masks (Eq. 8 to 10).

        Args:
            f_vit (Tensor): The ViT teacher's map, (B, C_vit, T', H', W').
            f_cnn (Tensor): The CNN teacher's map, (B, C_cnn, T'', H'', W'').
            student_grid (tuple[int, int, int]): (T, H, W) of the branch.
            width (int): Channels of the branch.

        Returns:
            Target: On the common grid.
        """
        grid = common_grid(
            [student_grid, f_vit.shape[2:], f_cnn.shape[2:]], self.grid
        )
        with torch.autocast(f_vit.device.type, enabled=False):
            f_vit, f_cnn = (
                resize_grid(at_least_float32(f.detach()), grid)
                for f in (f_vit, f_cnn)
            )
            projected = self.projections(f_vit, f_cnn, width)
            residual = projected[0] - projected[1]  # Eq. 8
            if self.projections.mode != 'learnable':
                residual = residual.detach()
            with torch.no_grad():
                mask = dual_mask(residual, f_cnn, **self.mask_options)
        return Target(residual, mask, projected)

    def predict_and_compare(
        self,
        branch: Callable[[Tensor], Tensor],
        student_map: Tensor,
        target: Target,
        labels: Optional[Tensor] = None,
    ) -> Tensor:
        """Predicts the target from the student's map (Eq. 11 and 12).

        Args:
            branch (callable): The structure discrepancy branch; it may run
                in mixed precision.
            student_map (Tensor): (B, C_s, T, H, W).
            target (Target): From :meth:`target`, or read from a cache.
            labels (Tensor, optional): (B,), only for ``phi='probe'``.

        Returns:
            Tensor: Scalar, see :meth:`compare`.
        """
        grid = target.residual.shape[2:]
        predicted = branch(resize_grid(student_map, grid))
        with torch.autocast(student_map.device.type, enabled=False):
            return self.compare(predicted, target, labels)

    def fixed_target_options(self) -> dict:
        """Returns everything that the target depends on besides the maps.

        Raises:
            ValueError: If it depends on trainable parameters or on the batch,
                or has one mask per channel.
        """
        projections, masks = self.projections, self.mask_options
        if (
            projections.needs_channels(projections.mode, projections.norm)
            or masks['quantile_scope'] == 'batch'
            or masks['res_score'] == 'elementwise'
        ):
            raise ValueError(
                f'StructureDiscrepancyLoss(phi={projections.mode!r}, '
                f'feat_norm={projections.norm!r}, quantile_scope='
                f'{masks["quantile_scope"]!r}, '
                f'res_score={masks["res_score"]!r}): its residual cannot be '
                'stored alone, because it changes or has one mask per '
                "channel. Store the maps instead (maps='student_grid')."
            )
        return dict(
            phi=projections.mode,
            feat_norm=projections.norm,
            seed=projections.seed,
            **masks,
        )

    def compare(
        self,
        predicted: Tensor,
        target: Target,
        labels: Optional[Tensor] = None,
    ) -> Tensor:
        """Computes the weighted loss on the target's grid.

        Args:
            predicted (Tensor): The branch's output, (B, C, T, H, W).
            target (Target): From :meth:`target`, or read from a cache.
            labels (Tensor, optional): (B,), only for ``phi='probe'``.

        Returns:
            Tensor: Scalar; if phi has its own loss, it is added (and trains
                only phi).
        """
        residual, mask, projected = target
        predicted = resize_grid(
            at_least_float32(predicted), residual.shape[2:]
        )
        loss = structure_discrepancy_loss(
            predicted, residual, mask, self.reduction
        )
        self.monitors = dict(mask_kept=mask.float().mean())
        if projected is not None:
            variance = residual.detach().var()
            self.monitors['residual_var'] = variance
            if self.projections.mode == 'learnable':
                self._warn_of_collapse(float(variance))
            own_loss = self.projections.own_loss(*projected, labels)
            if own_loss is not None:
                loss = loss + own_loss
        return self.loss_weight * loss

    def _warn_of_collapse(self, variance: float) -> None:
        """Warns once that L_SD has shrunk its own target."""
        if self._first_variance is None:
            self._first_variance = variance
        elif variance < COLLAPSED * self._first_variance:
            print_log(
                f'residual_var has fallen from {self._first_variance:.3g} to '
                f"{variance:.3g}: phi='learnable' shrinks the target of "
                'loss_sd instead of matching it. '
                "phi='frozen_orthogonal' cannot.",
                'current',
                level=30,
            )
            self._first_variance = 0.0
