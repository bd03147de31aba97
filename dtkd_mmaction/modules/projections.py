"""Projections phi of Eq. 8: teacher maps to one number of channels.

Trainable projections of the *target* let the loss fall by shrinking the
target instead of matching it, so the default is a fixed map and the trainable
ones each guard against that in their own way (``docs/equations.md``).
"""

from typing import Dict, Optional, Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

PROJECTIONS = (
    'frozen_orthogonal',
    'identity',
    'probe',
    'predictive',
    'learnable',
)
TRAINABLE = ('probe', 'predictive', 'learnable')
NORMS = ('layernorm_noaffine', 'none', 'running_std')


def orthogonal_matrix(rows: int, columns: int, seed: int) -> Tensor:
    """Returns a seeded (rows, columns) matrix with orthogonal rows or columns.

    Scaled so that its rows have unit length on average: components of unit
    variance become components of unit variance, whichever of the two is the
    wider. So maps that were standardised keep one scale in Eq. 8.
    """
    generator = torch.Generator().manual_seed(seed)
    tall = torch.randn(
        max(rows, columns), min(rows, columns), generator=generator
    )
    orthonormal, triangle = torch.linalg.qr(tall)
    # QR is unique up to these signs, which depend on the LAPACK in use.
    orthonormal = orthonormal * triangle.diagonal().sign()
    if rows < columns:
        return orthonormal.t()
    return orthonormal * (rows / columns) ** 0.5


def project(feature_map: Tensor, matrix: Tensor) -> Tensor:
    """Applies a 1x1x1 convolution with a (C_out, C_in) matrix."""
    return F.conv3d(feature_map, matrix[..., None, None, None])


class TeacherProjections(nn.Module):
    """Projections phi_ViT and phi_CNN.

    Args:
        mode (str): ``'frozen_orthogonal'``: fixed seeded semi-orthogonal
            maps into the student's width, the identity where the widths
            agree; ``'identity'``: no map, the widths must agree;
            ``'probe'``: 1x1x1 convolutions trained only by their own
            classification loss; ``'predictive'``: phi_ViT is the identity
            and phi_CNN is trained to predict the ViT's map, so the residual
            is what the CNN cannot predict linearly; ``'learnable'``: 1x1x1
            convolutions trained by L_SD itself (collapses, see
            ``docs/equations.md``).
        norm (str): Normalisation of a teacher's map before its projection.
            ``'layernorm_noaffine'``: zero mean and unit variance over channels
            at every position; ``'running_std'``: divided by a running standard
            deviation of each channel, its running mean subtracted; ``'none'``.
        channels (dict, optional): Widths ``student``, ``vit`` and ``cnn``;
            needed if there are parameters or running statistics.
        num_classes (int, optional): Needed by ``'probe'``.
        seed (int): Seed of the frozen maps. Defaults to 0.

    Raises:
        ValueError: For an unknown mode or norm, or if a width that is needed
            is missing.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.modules import TeacherProjections
        >>> phi = TeacherProjections()
        >>> f_vit = torch.randn(2, 12, 4, 7, 7)
        >>> f_cnn = torch.randn(2, 16, 4, 7, 7)
        >>> [tuple(f.shape) for f in phi(f_vit, f_cnn, 8)]
        [(2, 8, 4, 7, 7), (2, 8, 4, 7, 7)]
    """

    def __init__(
        self,
        mode: str = 'frozen_orthogonal',
        norm: str = 'layernorm_noaffine',
        channels: Optional[Dict[str, int]] = None,
        num_classes: Optional[int] = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if mode not in PROJECTIONS or norm not in NORMS:
            raise ValueError(
                f'TeacherProjections(mode={mode!r}, norm={norm!r}): modes '
                f'are {PROJECTIONS}, norms are {NORMS}.'
            )
        self.mode = mode
        self.norm = norm
        self.seed = seed
        channels = channels or {}
        if self.needs_channels(mode, norm):
            missing = {'student', 'vit', 'cnn'} - set(channels)
            if missing:
                raise ValueError(
                    f'phi={mode!r} with feat_norm={norm!r} has something to '
                    f'train or to keep: give channels=dict(student=.., '
                    f'vit=.., cnn=..); {sorted(missing)} missing.'
                )
        if mode in ('probe', 'learnable'):
            self.vit = nn.Conv3d(channels['vit'], channels['student'], 1)
            self.cnn = nn.Conv3d(channels['cnn'], channels['student'], 1)
        elif mode == 'predictive':
            self.cnn = nn.Conv3d(channels['cnn'], channels['vit'], 1)
        if mode == 'probe':
            if num_classes is None:
                raise ValueError("phi='probe' needs num_classes.")
            self.vit_classifier = nn.Linear(channels['student'], num_classes)
            self.cnn_classifier = nn.Linear(channels['student'], num_classes)
        if norm == 'running_std':
            self.vit_norm = nn.BatchNorm3d(channels['vit'], affine=False)
            self.cnn_norm = nn.BatchNorm3d(channels['cnn'], affine=False)
        self._frozen: Dict[Tuple, Tensor] = {}

    @staticmethod
    def needs_channels(mode: Optional[str], norm: Optional[str]) -> bool:
        """Returns whether the teachers' widths must be known beforehand."""
        return mode in TRAINABLE or norm == 'running_std'

    def normalise(self, feature_map: Tensor, teacher: str) -> Tensor:
        """Standardises a teacher's map (B, C, T, H, W)."""
        if self.norm == 'none':
            return feature_map
        if self.norm == 'layernorm_noaffine':
            channels_last = feature_map.movedim(1, -1)
            return F.layer_norm(
                channels_last, channels_last.shape[-1:]
            ).movedim(-1, 1)
        batch_norm = getattr(self, f'{teacher}_norm')
        if self.training:
            batch_norm(feature_map)  # updates the running statistics
        return F.batch_norm(
            feature_map, batch_norm.running_mean, batch_norm.running_var
        )

    def _apply_phi(
        self, feature_map: Tensor, teacher: str, width: int
    ) -> Tensor:
        if self.mode in TRAINABLE:
            phi = getattr(self, teacher, nn.Identity())
            return phi(feature_map)
        channels = feature_map.shape[1]
        if channels == width:
            return feature_map
        if self.mode == 'identity':
            raise ValueError(
                f"phi='identity': the {teacher} teacher's map has {channels} "
                f'channels and the target {width}. Use '
                f"phi='frozen_orthogonal'."
            )
        key = (width, channels, feature_map.device, feature_map.dtype)
        if key not in self._frozen:
            seed = self.seed + (teacher == 'cnn')
            self._frozen[key] = orthogonal_matrix(width, channels, seed).to(
                feature_map
            )
        return project(feature_map, self._frozen[key])

    def forward(
        self, f_vit: Tensor, f_cnn: Tensor, width: int
    ) -> Tuple[Tensor, Tensor]:
        """Returns phi_ViT(f_ViT) and phi_CNN(f_CNN) with ``width`` channels.

        Args:
            f_vit (Tensor): (B, C_vit, T, H, W).
            f_cnn (Tensor): (B, C_cnn, T, H, W).
            width (int): Channels of the target.

        Returns:
            tuple[Tensor, Tensor]: Each (B, width, T, H, W).
        """
        f_vit = self._apply_phi(self.normalise(f_vit, 'vit'), 'vit', width)
        f_cnn = self._apply_phi(self.normalise(f_cnn, 'cnn'), 'cnn', width)
        return f_vit, f_cnn

    def own_loss(
        self,
        projected_vit: Tensor,
        projected_cnn: Tensor,
        labels: Optional[Tensor],
    ) -> Optional[Tensor]:
        """Returns phi's own loss, or None if it has none.

        Args:
            projected_vit (Tensor): First output of :meth:`forward`.
            projected_cnn (Tensor): Second output.
            labels (Tensor, optional): (B,) classes or (B, N) soft labels;
                needed by ``'probe'``.

        Returns:
            Tensor or None: Scalar.
        """
        if self.mode == 'predictive':
            return F.mse_loss(projected_cnn, projected_vit.detach())
        if self.mode == 'probe':
            if labels is None:
                raise ValueError("phi='probe' needs the labels.")
            return sum(
                labelled_cross_entropy(
                    classifier(projected.mean(dim=(2, 3, 4))), labels
                )
                for classifier, projected in (
                    (self.vit_classifier, projected_vit),
                    (self.cnn_classifier, projected_cnn),
                )
            )
        return None


def labelled_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Computes the mean cross-entropy of the labelled rows; 0 if none.

    Args:
        logits (Tensor): (B, N).
        labels (Tensor): (B,) classes, -1 for "no label", or (B, N) soft
            labels.

    Returns:
        Tensor: Scalar.
    """
    if labels.is_floating_point():
        return F.cross_entropy(logits, labels)
    total = F.cross_entropy(logits, labels, ignore_index=-1, reduction='sum')
    return total / (labels >= 0).sum().clamp(min=1)
