"""MoViNet A0 to A5, on whole clips or on a stream (arXiv 2103.11511).

Reimplementation of the official TensorFlow implementation
(``official/projects/ movinet`` of its model garden), with the same padding,
BatchNorm, initialisation and stochastic depth.
"""

from typing import List, Optional, Tuple

import torch.nn as nn
from mmaction.registry import MODELS
from mmengine.model import BaseModule
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor

from .movinet_archs import ARCHS
from .movinet_layers import (
    PADDINGS,
    Bottleneck,
    ConvBlock,
    LayerState,
    activations,
    he_normal_,
)

CONV_TYPES = ('3d', '2plus1d')
# Keras' momentum 0.99 is PyTorch's 0.01.
NORM = dict(type='BN3d', eps=1e-3, momentum=0.01)
# One dict per layer of every stage.
StreamState = List[List[LayerState]]


class Stage(nn.Sequential):
    """Sequence of bottlenecks of one width."""

    def forward(
        self, x: Tensor, states: Optional[List[LayerState]] = None
    ) -> Tensor:
        """Maps (B, C_in, T, H, W) to (B, b, T, H / stride, W / stride)."""
        for index, layer in enumerate(self):
            x = layer(x, states[index] if states is not None else None)
        return x


@MODELS.register_module()
class MoViNet(BaseModule):
    """Backbone of MoViNet: stem, five stages and the projection ``conv7``.

    Takes RGB in [0, 1]: ``mean=[0, 0, 0], std=[255, 255, 255]`` in the data
    preprocessor. Any number of frames and any height and width will do.
    Modules worth tapping: ``stages.0`` to ``stages.4`` (the map before
    ``conv7``) and ``conv7``, whose output is the backbone's.

    The causal form uses past frames only, and can process a video in pieces of
    any length. The caller keeps the state, so that no module mixes two
    videos::

        state = head_state = None
        for piece in video:  # (B, 3, T, H, W)
            feats, state = backbone.stream(piece, state)
            scores, head_state = head.stream(feats, head_state)

    Args:
        arch (str): ``'a0'`` to ``'a5'``.
        causal (bool): Whether to use past frames only. Defaults to False.
        conv_type (str, optional): ``'3d'``, or ``'2plus1d'``: kernels in
            space, then in time, with hard-swish and hard-sigmoid instead of
            swish and sigmoid. Defaults to ``'3d'``, for a causal network to
            ``'2plus1d'``: the two published forms.
        padding (str): ``'same'``: TensorFlow's rule, which the published
            weights need; ``'symmetric'``: the same zeros on both sides for
            every size, which is easier to export. Defaults to ``'same'``.
        pos_encoding (bool, optional): Whether causal squeeze-excitation gets
            the frame's position. Defaults to True for causal A3, A4 and A5, as
            published.
        drop_path_rate (float): Stochastic depth of the last layer; it grows
            linearly with depth. Defaults to 0.2.
        in_channels (int): Defaults to 3.
        norm_cfg (dict): BatchNorm; ``dict(type='SyncBN')`` for the official
            recipe on several devices. ``eps`` and ``momentum`` default to
            the official 1e-3 and 0.01.
        init_cfg (dict, optional): Such as ``dict(type='Pretrained', ...)``.

    Attributes:
        out_channels (int): Channels of the last map: 480, 600, 640, 744, 856
            and 992 for A0 to A5.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.backbones import MoViNet
        >>> backbone = MoViNet(arch='a0').eval()
        >>> with torch.no_grad():
        ...     backbone(torch.zeros(1, 3, 4, 32, 32)).shape
        torch.Size([1, 480, 4, 1, 1])
    """

    def __init__(
        self,
        arch: str = 'a0',
        causal: bool = False,
        conv_type: Optional[str] = None,
        padding: str = 'same',
        pos_encoding: Optional[bool] = None,
        drop_path_rate: float = 0.2,
        in_channels: int = 3,
        norm_cfg: Optional[dict] = None,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(init_cfg)
        if conv_type is None:
            conv_type = '2plus1d' if causal else '3d'
        for option, value, choices in (
            ('arch', arch, tuple(ARCHS)),
            ('conv_type', conv_type, CONV_TYPES),
            ('padding', padding, PADDINGS),
        ):
            if value not in choices:
                raise ValueError(
                    f'MoViNet({option}={value!r}): choose one of {choices}.'
                )
        if pos_encoding is None:
            pos_encoding = causal and arch in ('a3', 'a4', 'a5')
        if pos_encoding and not causal:
            raise ValueError(
                'MoViNet(pos_encoding=True) needs causal=True: only its '
                'squeeze-excitation works frame by frame.'
            )
        norm_cfg = {**NORM, **(norm_cfg or {})}
        act, _ = activations(conv_type)
        stem, projection, stages = ARCHS[arch]
        depth = sum(len(stage.expanded) for stage in stages)
        self.causal = causal
        self.out_channels = projection

        self.stem = ConvBlock(
            in_channels,
            stem,
            norm_cfg,
            (1, 3, 3),
            stride=2,
            act=act,
            padding=padding,
        )
        self.stages = nn.ModuleList()
        width, index = stem, 0
        for base, stride, expanded, kernels in stages:
            layers: List[nn.Module] = []
            for inner, kernel in zip(expanded, kernels):
                index += 1
                layers.append(
                    Bottleneck(
                        width,
                        base,
                        inner,
                        kernel,
                        1 if layers else stride,
                        norm_cfg,
                        causal,
                        conv_type,
                        padding,
                        pos_encoding,
                        drop_path_rate * index / depth,
                    )
                )
                width = base
            self.stages.append(Stage(*layers))
        self.conv7 = ConvBlock(width, projection, norm_cfg, act=act)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Applies the official initialisation."""
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                he_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, _BatchNorm):
                module.reset_parameters()
            elif isinstance(module, Bottleneck):
                nn.init.zeros_(module.alpha)
                if module.se.pos_scale is not None:
                    nn.init.zeros_(module.se.pos_scale)

    def init_weights(self) -> None:
        """Applies the official initialisation, then ``init_cfg``."""
        self.reset_parameters()
        super().init_weights()

    def forward(self, clips: Tensor) -> Tensor:
        """Returns the last map of whole clips; keeps no state.

        Args:
            clips (Tensor): (B, 3, T, H, W), in [0, 1].

        Returns:
            Tensor: (B, out_channels, T, ceil(H / 32), ceil(W / 32)).
        """
        return self._forward(clips, [None] * len(self.stages))

    def stream(
        self, piece: Tensor, state: Optional[StreamState] = None
    ) -> Tuple[Tensor, StreamState]:
        """Returns the last map of the next frames of each video.

        The concatenated maps of the pieces equal the output of :meth:`forward`
        for the whole videos (BatchNorm in eval mode).

        Args:
            piece (Tensor): (B, 3, T, H, W), T >= 1, in [0, 1].
            state (list, optional): State returned for the piece before;
                ``None`` begins new videos. It is not changed.

        Returns:
            tuple[Tensor, list]: (B, out_channels, T, ceil(H / 32),
                ceil(W / 32)), and the state for the next piece.

        Raises:
            RuntimeError: If the network is not causal.
            ValueError: If the state belongs to other videos.
        """
        if not self.causal:
            raise RuntimeError(
                'MoViNet.stream needs MoViNet(causal=True): this one looks '
                'ahead of the frame.'
            )
        if state is None:
            state = [[{} for _ in stage] for stage in self.stages]
        else:
            state = [[dict(layer) for layer in stage] for stage in state]
        return self._forward(piece, state), state

    def _forward(self, x: Tensor, states: list) -> Tensor:
        x = self.stem(x)
        for stage, stage_states in zip(self.stages, states):
            x = stage(x, stage_states)
        return self.conv7(x)
