"""Fused attention in those models of timm that do not use it."""

from typing import List

import torch.nn as nn

from .rewrite import Run, Undo, replace_attribute


def fuse_timm_attention(model: nn.Module, run: Run) -> List[Undo]:
    """Switches ``fused_attn`` on, as in timm's Swin Transformers.

    timm's plain ViTs have it on unless ``TIMM_FUSED_ATTN=0`` is set.
    """
    return [
        replace_attribute(module, 'fused_attn', True)
        for module in model.modules()
        if type(module).__module__.startswith('timm.')
        and getattr(module, 'fused_attn', None) is False
    ]
