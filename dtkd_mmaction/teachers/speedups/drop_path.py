"""Removes stochastic depth, which does nothing in eval mode."""

from typing import List

import torch.nn as nn

from .rewrite import Run, Undo, replace_attribute

# Its names in MMAction2, MMPretrain and timm, and in torchvision.
NAMES = ('DropPath', 'StochasticDepth')


def remove_drop_path(model: nn.Module, run: Run) -> List[Undo]:
    """Replaces stochastic depth by the identity.

    It costs little in eval mode, but the NumPy number in MMAction2's
    ``DropPath`` breaks the graph of ``torch.compile`` in every block.
    """
    return [
        replace_attribute(parent, name, nn.Identity())
        for parent in list(model.modules())
        for name, child in list(parent.named_children())
        if type(child).__name__ in NAMES
    ]
