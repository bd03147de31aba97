"""The auxiliary branch g_SDB that predicts the teachers' residual (Eq. 11)."""

from typing import Optional

import torch.nn as nn
from mmaction.models.backbones.x3d import SEModule
from mmaction.registry import MODELS
from mmcv.cnn import NonLocal3d
from torch import Tensor


@MODELS.register_module()
class StructureDiscrepancyBranch(nn.Module):
    """SE(NL(f)), then a 1x1x1 convolution that frees its sign and width.

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
        reduction (int): The non-local block works in
            ``in_channels // reduction`` channels. Defaults to 2.
        se_ratio (int): Squeeze-excitation's bottleneck is
            ``in_channels / se_ratio`` wide, rounded to a multiple of 8.
            Defaults to 16.

    Raises:
        ValueError: If nothing is left to change the width.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: Optional[int] = None,
        use_nonlocal: bool = True,
        use_se: bool = True,
        out_proj: bool = True,
        reduction: int = 2,
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
        layers = []
        if use_nonlocal:
            layers.append(
                NonLocal3d(
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
        """(B, C_s, T, H, W) to the predicted residual (B, C_out, T, H, W)."""
        return self.layers(student_map)
