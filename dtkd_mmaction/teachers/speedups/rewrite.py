"""Changes of single modules that can be undone, shared by all rewrites."""

from typing import Any, Callable, List, Mapping

import torch.nn as nn
from torch import Tensor

# Runs the model once on some clips; name -> output: 'logits', 'map', ...
Run = Callable[[], Mapping[str, Tensor]]
Undo = Callable[[], None]
# A rewrite changes a recognizer in place and returns how to undo each
# change. The list is empty if it found nothing to rewrite.
Rewrite = Callable[[nn.Module, Run], List[Undo]]


def replace_forward(module: nn.Module, forward: Callable) -> Undo:
    """Gives one module, not its class, another ``forward``."""
    module.forward = forward

    def undo() -> None:
        del module.forward

    return undo


def replace_attribute(owner: nn.Module, name: str, value: Any) -> Undo:
    """Replaces a submodule, a parameter or another attribute."""
    before = getattr(owner, name)
    setattr(owner, name, value)

    def undo() -> None:
        setattr(owner, name, before)

    return undo
