"""Skips attention weights (``need_weights=False``)."""

from functools import partial
from typing import List

import torch.nn as nn

from .rewrite import Run, Undo, replace_forward


def drop_attention_weights(model: nn.Module, run: Run) -> List[Undo]:
    """Makes ``nn.MultiheadAttention`` return no attention weights.

    MMAction2's TimeSformer requests the weights and does not use them, which
    keeps PyTorch from its fused kernels.
    """
    return [
        replace_forward(module, partial(module.forward, need_weights=False))
        for module in model.modules()
        if isinstance(module, nn.MultiheadAttention)
    ]
