"""The memory layout in which CPUs convolve three-dimensional maps faster."""

from typing import List

import torch
import torch.nn as nn

from .rewrite import Undo


def to_channels_last(model: nn.Module) -> List[Undo]:
    """Lays out the weights of all 3-D convolutions channels-last.

    Their outputs follow. ``model.to(memory_format=...)`` would not do: it
    converts every five-dimensional tensor of a recognizer, and raises.
    """
    undo: List[Undo] = []
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            weight, before = module.weight, module.weight.data
            weight.data = before.contiguous(
                memory_format=torch.channels_last_3d
            )

            def put_back(
                weight: nn.Parameter = weight, before: torch.Tensor = before
            ) -> None:
                weight.data = before

            undo.append(put_back)
    return undo


def prefers_channels_last(model: nn.Module) -> bool:
    """Whether channels-last is the faster layout by rule.

    It is for a 3-D CNN on a CPU. On a GPU the faster layout depends on the
    card, so the rule keeps the stock layout. A rule and no measurement, so
    that a run that is repeated or resumed is the same run.
    """
    # A head may be wider than the backbone of a small model.
    parameters = list(model.backbone.parameters())
    convolved = sum(p.numel() for p in parameters if p.ndim == 5)
    is_cnn = 2 * convolved > sum(p.numel() for p in parameters)
    return is_cnn and parameters[0].device.type == 'cpu'


def channels_last(model: nn.Module) -> List[Undo]:
    """Lays out a model channels-last where that is faster by rule."""
    return to_channels_last(model) if prefers_channels_last(model) else []
