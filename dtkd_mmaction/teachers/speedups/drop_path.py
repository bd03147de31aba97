"""Stochastic depth, which does nothing in eval mode, taken out."""

from typing import List

import torch.nn as nn

from .rewrite import Undo, replace_child


def remove_drop_path(model: nn.Module) -> List[Undo]:
    """Replace every ``DropPath`` by the identity.

    In eval mode it costs little, but the NumPy number in MMAction2's breaks
    the graph of ``torch.compile`` in every block.
    """
    return [
        replace_child(parent, name, nn.Identity())
        for parent in list(model.modules())
        for name, child in list(parent.named_children())
        if type(child).__name__ == 'DropPath'
    ]
