"""Attention weights that nobody reads are not asked for."""

from functools import partial
from typing import List

import torch.nn as nn

from .rewrite import Undo, replace_forward


def drop_attention_weights(model: nn.Module) -> List[Undo]:
    """Have ``nn.MultiheadAttention`` return no weights.

    MMAction2's TimeSformer asks for them and drops them, which keeps PyTorch
    from its fused kernels.
    """
    return [
        replace_forward(module, partial(module.forward, need_weights=False))
        for module in model.modules()
        if isinstance(module, nn.MultiheadAttention)
    ]
