"""Layers of MoViNet: same padding, causal memory, the bottleneck.

A causal layer has an argument ``state``: ``None`` for a whole clip, or the
dict in which it stores what the next piece of the stream needs. All values are
tensors, so that a step can be exported; they are replaced, never modified in
place. A state of zeros equals an empty one.
"""

import math
from typing import Dict, Optional, Sequence, Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.drop import DropPath
from torch import Tensor

LayerState = Dict[str, Tensor]
PADDINGS = ('same', 'symmetric')


def make_divisible(width: float, divisor: int = 8) -> int:
    """Returns a multiple of ``divisor``, at least 90 % of ``width``."""
    nearest = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * width else nearest


def same_padding(size: int, kernel: int, stride: int) -> Tuple[int, int]:
    """Returns TensorFlow's 'same' padding; an odd zero goes to the end.

    Args:
        size (int): Pixels along one axis.
        kernel (int): Kernel size of the layer along that axis.
        stride (int): Stride of the layer along that axis.

    Returns:
        tuple[int, int]: Padding that gives ``ceil(size / stride)`` outputs.
    """
    outputs = math.ceil(size / stride)
    total = max((outputs - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def he_normal_(weight: Tensor) -> None:
    """Fills a weight with Keras' ``HeNormal`` (fan-in, truncated).

    Args:
        weight (Tensor): (C_out, C_in per group, ...), overwritten.
    """
    std = math.sqrt(2 / weight[0].numel())
    std /= 0.87962566103423978  # what truncation leaves of a unit deviation
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def check_same_videos(past: Tensor, frames: Tensor) -> None:
    """Raises an error if frames cannot continue the videos of a state.

    Args:
        past (Tensor): (B, C, T', ...), from the state.
        frames (Tensor): (B, C, T, ...).
    """
    past, frames = past[:, :, 0], frames[:, :, 0]
    if past.shape != frames.shape:
        raise ValueError(
            f'A state of maps {tuple(past.shape)} (B, C, ...) is continued '
            f'with {tuple(frames.shape)}. Begin new videos with state=None.'
        )


def running_mean(frames: Tensor, state: Optional[LayerState] = None) -> Tensor:
    """Computes the mean of all frames up to each frame, over all pieces.

    Args:
        frames (Tensor): (B, C, T, ...).
        state (dict, optional): Keeps ``sum`` and ``count``, a number of
            frames, int64 ().

    Returns:
        Tensor: As ``frames``.
    """
    state = {} if state is None else state
    length = frames.shape[2]
    seen = frames_seen(state, frames)
    # Half precision would lose the late frames of a long sum.
    dtype = torch.promote_types(frames.dtype, torch.float32)
    total = frames.cumsum(dim=2, dtype=dtype)
    if 'sum' in state:
        check_same_videos(state['sum'], frames)
        total = total + state['sum']
    state['sum'], state['count'] = total[:, :, -1:].clone(), seen + length
    count = seen + torch.arange(1, length + 1, device=frames.device)
    count = count.to(dtype).view((-1,) + (1,) * (frames.ndim - 3))
    return (total / count).to(frames.dtype)


def frames_seen(state: Optional[LayerState], frames: Tensor) -> Tensor:
    """Returns the number of frames of the pieces before, int64 ().

    Args:
        state (dict, optional): Of :func:`running_mean`.
        frames (Tensor): For the device.
    """
    if state is None or 'count' not in state:
        return torch.zeros((), dtype=torch.int64, device=frames.device)
    return state['count']


def after_past_frames(
    clip: Tensor, length: int, state: Optional[LayerState] = None
) -> Tensor:
    """Prepends the ``length`` frames before the clip; zeros at the start.

    Args:
        clip (Tensor): (B, C, T, H, W).
        length (int): Frames that a causal kernel looks back.
        state (dict, optional): Keeps ``frames``.

    Returns:
        Tensor: (B, C, length + T, H, W).
    """
    past = None if state is None else state.get('frames')
    if past is None:
        clip = F.pad(clip, (0, 0, 0, 0, length, 0))
    else:
        check_same_videos(past, clip)
        clip = torch.cat([past, clip], dim=2)
    if state is not None:
        # A copy: a slice would keep the whole piece in memory.
        state['frames'] = clip[:, :, -length:].clone()
    return clip


def positional_encoding(start: Tensor, length: int, like: Tensor) -> Tensor:
    """Computes the sinusoidal encoding from position ``start`` on.

    Args:
        start (Tensor): Index of the first frame, int64 ().
        length (int): T.
        like (Tensor): (B, C, ...), for width, type and device.

    Returns:
        Tensor: (1, C, T, 1, 1): C / 2 sines, then C / 2 cosines.
    """
    half = like.shape[1] // 2
    dtype = torch.promote_types(like.dtype, torch.float32)
    steps = torch.arange(half, dtype=dtype, device=like.device)
    frames = (start + torch.arange(length, device=like.device)).to(dtype)
    angles = frames * (10000 ** (-steps / half)).unsqueeze(1)
    encoding = torch.cat([angles.sin(), angles.cos()])
    return encoding.view(1, -1, length, 1, 1).to(like.dtype)


class HardSigmoid(nn.Module):
    """Hard sigmoid of Keras, ``clip(0.2 x + 0.5, 0, 1)``.

    Not ``nn.Hardsigmoid``, whose slope is 1 / 6.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Applies the function elementwise."""
        return (0.2 * x + 0.5).clamp(0, 1)


class ConvBlock(nn.Module):
    """Convolution without bias, BatchNorm, activation.

    Args:
        in_channels (int): C_in.
        out_channels (int): C_out.
        norm_cfg (dict): See :class:`MoViNet`.
        kernel (Sequence[int]): Frames, height, width. Defaults to 1 x 1 x 1.
        stride (int): Stride in space. Defaults to 1.
        groups (int): Defaults to 1.
        act (type, optional): Class of the activation.
        padding (str): ``'same'`` or ``'symmetric'`` in space.
        pad_time (bool): Whether to pad time, half on either side.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm_cfg: dict,
        kernel: Sequence[int] = (1, 1, 1),
        stride: int = 1,
        groups: int = 1,
        act: Optional[type] = None,
        padding: str = 'same',
        pad_time: bool = True,
    ) -> None:
        super().__init__()
        # With stride 1 both rules are the same and the convolution pads.
        self.pad_by_size = padding == 'same' and stride > 1
        half = [size // 2 for size in kernel]
        self.conv = nn.Conv3d(
            in_channels,
            out_channels,
            tuple(kernel),
            (1, stride, stride),
            (
                half[0] if pad_time else 0,
                0 if self.pad_by_size else half[1],
                0 if self.pad_by_size else half[2],
            ),
            groups=groups,
            bias=False,
        )
        self.norm = build_norm_layer(norm_cfg, out_channels)[1]
        self.act = nn.Identity() if act is None else act()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C_in, T, H, W) to (B, C_out, T, H / stride, W / stride)."""
        if self.pad_by_size:
            _, height, width = self.conv.kernel_size
            stride = self.conv.stride[-1]
            x = F.pad(
                x,
                same_padding(x.shape[-1], width, stride)
                + same_padding(x.shape[-2], height, stride),
            )
        return self.act(self.norm(self.conv(x)))


class DepthwiseConv(nn.ModuleList):
    """Depthwise convolution over time and space, in one block or in two.

    Args:
        channels (int): e.
        kernel (tuple[int, int]): (frames, pixels).
        stride (int): Stride in space.
        norm_cfg (dict): See :class:`MoViNet`.
        act (type): Class of the activation.
        causal (bool): Whether to use past frames only.
        conv_type (str): ``'3d'``: one block; ``'2plus1d'``: space, then,
            where the kernel has more than one frame, time.
        padding (str): ``'same'`` or ``'symmetric'`` in space.
    """

    def __init__(
        self,
        channels: int,
        kernel: Tuple[int, int],
        stride: int,
        norm_cfg: dict,
        act: type,
        causal: bool,
        conv_type: str,
        padding: str,
    ) -> None:
        frames, pixels = kernel
        if conv_type == '3d' or frames == 1:
            kernels = [(frames, pixels, pixels)]
        else:
            kernels = [(1, pixels, pixels), (frames, 1, 1)]
        super().__init__(
            ConvBlock(
                channels,
                channels,
                norm_cfg,
                kernel,
                stride=stride if index == 0 else 1,
                groups=channels,
                act=act,
                padding=padding,
                pad_time=not causal,
            )
            for index, kernel in enumerate(kernels)
        )
        self.causal = causal

    def forward(self, x: Tensor, state: Optional[LayerState] = None) -> Tensor:
        """Maps (B, e, T, H, W) to (B, e, T, H / stride, W / stride)."""
        for block in self:
            look_back = block.conv.kernel_size[0] - 1
            if self.causal and look_back:
                x = after_past_frames(x, look_back, state)
            x = block(x)
        return x


class SqueezeExcitation(nn.Module):
    """Squeeze-excitation: one gate per channel, from the mean over the clip.

    The causal form gates every frame, from the mean over the frames so far
    and the frame's own.

    Args:
        channels (int): e.
        act (type): Class of the activation between the two layers.
        gate (type): Class of the activation at the end.
        causal (bool): Whether to use past frames only.
        pos_encoding (bool): Whether to add the frame's position to the causal
            form's means, times a learned scalar that starts at 0.
    """

    def __init__(
        self,
        channels: int,
        act: type,
        gate: type,
        causal: bool = False,
        pos_encoding: bool = False,
    ) -> None:
        super().__init__()
        inputs = 2 * channels if causal else channels
        hidden = make_divisible(inputs / 4)
        self.causal = causal
        self.reduce = nn.Conv3d(inputs, hidden, 1)
        self.act = act()
        self.expand = nn.Conv3d(hidden, channels, 1)
        self.gate = gate()
        self.pos_scale = (
            nn.Parameter(torch.zeros(())) if pos_encoding else None
        )

    def forward(self, x: Tensor, state: Optional[LayerState] = None) -> Tensor:
        """Multiplies (B, e, T, H, W) by the gates."""
        if self.causal:
            start = frames_seen(state, x)
            own = x.mean(dim=(3, 4), keepdim=True)
            pooled = torch.cat([running_mean(own, state), own], dim=1)
            if self.pos_scale is not None:
                pooled = pooled + self.pos_scale * positional_encoding(
                    start, x.shape[2], pooled
                )
        else:
            pooled = x.mean(dim=(2, 3, 4), keepdim=True)
        return x * self.gate(self.expand(self.act(self.reduce(pooled))))


class SkipPool(nn.Module):
    """Average pooling of 3 x 3 pixels at stride 2.

    Args:
        padding (str): ``'same'``: as TensorFlow, where border windows count
            real pixels only; ``'symmetric'``: padded zeros count, too.
    """

    def __init__(self, padding: str = 'same') -> None:
        super().__init__()
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, T, H, W) to (B, C, T, ceil(H / 2), ceil(W / 2))."""
        same = self.padding == 'same'
        # An even size has its one row of padding after the last: ceil_mode.
        height, width = (size % 2 if same else 1 for size in x.shape[-2:])
        # In 2-D: avg_pool3d refuses maps smaller than the kernel.
        pooled = F.avg_pool2d(
            x.flatten(1, 2),
            3,
            2,
            (height, width),
            ceil_mode=same,
            count_include_pad=not same,
        )
        return pooled.unflatten(1, x.shape[1:3])


class Bottleneck(nn.Module):
    """Bottleneck ``x + alpha * branch(x)``, without an activation behind it.

    Expand, depthwise, squeeze-excitation, project. alpha starts at 0
    (ReZero), so a new network's layers are their skips.

    Args:
        in_channels (int): C_in.
        out_channels (int): b, channels of the stage.
        expanded (int): e, channels inside.
        kernel (tuple[int, int]): (frames, pixels) of the depthwise kernel.
        stride (int): Stride in space.
        norm_cfg (dict): See :class:`MoViNet`.
        causal (bool): See :class:`MoViNet`.
        conv_type (str): See :class:`MoViNet`.
        padding (str): See :class:`MoViNet`.
        pos_encoding (bool): See :class:`MoViNet`.
        drop_path (float): Probability that a sample's branch is dropped.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expanded: int,
        kernel: Tuple[int, int],
        stride: int,
        norm_cfg: dict,
        causal: bool = False,
        conv_type: str = '3d',
        padding: str = 'same',
        pos_encoding: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        act, gate = activations(conv_type)
        self.expand = ConvBlock(in_channels, expanded, norm_cfg, act=act)
        self.depthwise = DepthwiseConv(
            expanded, kernel, stride, norm_cfg, act, causal, conv_type, padding
        )
        self.se = SqueezeExcitation(expanded, act, gate, causal, pos_encoding)
        self.project = ConvBlock(expanded, out_channels, norm_cfg)
        self.alpha = nn.Parameter(torch.zeros(()))
        self.drop_path = DropPath(drop_path)
        skip = [SkipPool(padding)] if stride > 1 else []
        if stride > 1 or in_channels != out_channels:
            skip.append(ConvBlock(in_channels, out_channels, norm_cfg))
        self.skip = nn.Sequential(*skip)  # the identity where empty

    def forward(self, x: Tensor, state: Optional[LayerState] = None) -> Tensor:
        """Maps (B, C_in, T, H, W) to (B, b, T, H / stride, W / stride)."""
        branch = self.depthwise(self.expand(x), state)
        branch = self.project(self.se(branch, state))
        return self.skip(x) + self.drop_path(self.alpha * branch)


def activations(conv_type: str) -> Tuple[type, type]:
    """Returns the classes of the activation and of the gate."""
    if conv_type == '2plus1d':
        return nn.Hardswish, HardSigmoid
    return nn.SiLU, nn.Sigmoid
