"""What all rewrites share: changes of single modules that can be undone."""

from typing import Any, Callable, List

import torch.nn as nn

# A rewrite changes a recognizer in place and returns how to undo each change;
# an empty list where it found nothing to rewrite.
Undo = Callable[[], None]
Rewrite = Callable[[nn.Module], List[Undo]]


def replace_forward(module: nn.Module, forward: Callable) -> Undo:
    """Give one module, not its class, another ``forward``."""
    module.forward = forward

    def undo() -> None:
        del module.forward

    return undo


def replace_child(parent: nn.Module, name: str, child: Any) -> Undo:
    """Put another submodule or parameter in a place."""
    before = getattr(parent, name)
    setattr(parent, name, child)

    def undo() -> None:
        setattr(parent, name, before)

    return undo
