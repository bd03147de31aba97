"""Replacements of compiled operators that mmcv-lite lacks."""

import importlib.abc
import importlib.machinery
import importlib.util

import torch

from ._patching import wrap


def shift_in_time(data: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Moves groups of channels along time by a fraction of frames.

    Args:
        data (Tensor): (N, T, C, H, W).
        offset (Tensor): (N, G), frames by which each of G groups of channels
            moves; what moves in from outside of the clip is zero.

    Returns:
        Tensor: (N, T, C, H, W), differentiable in both.
    """
    frames, channels = data.shape[1:3]
    offset = offset.repeat_interleave(channels // offset.shape[1], dim=1)
    whole = offset.detach().floor()
    time = torch.arange(frames, device=data.device)[None, :, None]
    moved = torch.zeros_like(data)
    for step, weight in ((0, 1 - (offset - whole)), (1, offset - whole)):
        source = time - (whole.long() + step)[:, None]  # (N, T, C)
        inside = (source >= 0) & (source < frames)
        weight = (weight[:, None] * inside)[..., None, None]
        index = source.clamp(0, frames - 1)[..., None, None].expand_as(data)
        moved = moved + weight * data.gather(1, index)
    return moved


def tin_without_mmcv_operators() -> None:
    """Lets TIN run without the compiled operators of mmcv.

    TIN needs ``mmcv.ops.tin_shift``, which mmcv-lite lacks and the full mmcv
    has for CUDA only. Where that operator can run, it is used.
    """
    from mmaction.models.backbones import resnet_tin

    def make(upstream):
        def linear_sampler(data, offset):
            compiled = importlib.util.find_spec('mmcv._ext') is not None
            if compiled and data.is_cuda:
                return upstream(data, offset)
            return shift_in_time(data, offset)

        return linear_sampler

    wrap(resnet_tin, 'linear_sampler', make)
