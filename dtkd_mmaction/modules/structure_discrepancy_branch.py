"""Auxiliary branch g_SDB that predicts the teachers' residual (Eq. 11)."""

from typing import Optional

import torch.nn as nn
import torch.nn.functional as F
from mmaction.models.backbones.x3d import SEModule
from mmaction.registry import MODELS
from mmcv.cnn import NonLocal3d
from torch import Tensor

# Default channels of the non-local block of a wider map, so that the branch is
# cheap for wide students, too (MoViNet 640, SlowFast 2048).
WIDE, CHANNELS_OF_WIDE = 512, 128


class FusedNonLocal3d(NonLocal3d):
    """MMCV's embedded-Gaussian block with fused attention.

    Same weights, same result; but the weights of T*H*W by T*H*W pairs of
    positions are never stored, and a channels-last map is accepted.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, T, H, W) to the same shape."""
        query, key, value = (
            # (B, 1, T*H*W, C'): one head
            layer(x).flatten(2).transpose(1, 2).unsqueeze(1).contiguous()
            for layer in (self.theta, self.phi, self.g)
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        attended = attended.squeeze(1).transpose(1, 2)
        return x + self.conv_out(attended.unflatten(2, x.shape[2:]))


@MODELS.register_module()
class StructureDiscrepancyBranch(nn.Module):
    """Branch ``SE(NL(f))`` with a final 1x1x1 convolution (Eq. 11).

    The non-local block starts as the identity and squeeze-excitation only
    scales: without the last convolution the branch could not predict a
    signed residual from a student's non-negative map. Lives in training
    only; its gradient reaches the student's backbone, which is its purpose.

    Args:
        in_channels (int): Width of the student's map.
        out_channels (int, optional): Width of the residual. Defaults to
            ``in_channels``.
        use_nonlocal (bool): Defaults to True.
        use_se (bool): Defaults to True.
        out_proj (bool): The last convolution. Defaults to True.
        reduction (int, optional): The non-local block works in
            ``in_channels // reduction`` channels. Defaults to 2, for maps of
            more than :data:`WIDE` channels to what leaves
            :data:`CHANNELS_OF_WIDE`.
        se_ratio (int): Squeeze-excitation's bottleneck is
            ``in_channels / se_ratio`` wide, rounded to a multiple of 8.
            Defaults to 16.

    Raises:
        ValueError: If nothing is left to change the width.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.modules import StructureDiscrepancyBranch
        >>> branch = StructureDiscrepancyBranch(32, out_channels=48)
        >>> branch(torch.randn(2, 32, 4, 7, 7)).shape
        torch.Size([2, 48, 4, 7, 7])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: Optional[int] = None,
        use_nonlocal: bool = True,
        use_se: bool = True,
        out_proj: bool = True,
        reduction: Optional[int] = None,
        se_ratio: int = 16,
    ) -> None:
        super().__init__()
        out_channels = out_channels or in_channels
        if not out_proj and out_channels != in_channels:
            raise ValueError(
                'StructureDiscrepancyBranch(out_proj=False) keeps the width '
                f'{in_channels}, but the residual has {out_channels} '
                'channels. Use out_proj=True.'
            )
        if reduction is None:
            is_wide = in_channels > WIDE
            reduction = in_channels // CHANNELS_OF_WIDE if is_wide else 2
        layers = []
        if use_nonlocal:
            layers.append(
                FusedNonLocal3d(
                    in_channels,
                    reduction=reduction,
                    norm_cfg=dict(type='BN3d'),
                )
            )
        if use_se:
            layers.append(SEModule(in_channels, 1 / se_ratio))
        if out_proj:
            layers.append(nn.Conv3d(in_channels, out_channels, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, student_map: Tensor) -> Tensor:
        """Predicts the residual (B, C_out, T, H, W) from (B, C_s, T, H, W)."""
        return self.layers(student_map)
