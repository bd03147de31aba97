"""Memory layout in which CPUs compute convolutions faster."""

from typing import Dict, List

import torch
import torch.nn as nn

from .rewrite import Run, Undo

# Convolution -> its channels-last layout.
LAYOUTS: Dict[type, torch.memory_format] = {
    nn.Conv2d: torch.channels_last,
    nn.Conv3d: torch.channels_last_3d,
}


def to_channels_last(
    model: nn.Module, kinds: tuple = (nn.Conv3d,)
) -> List[Undo]:
    """Stores the weights of convolutions channels-last.

    The outputs of the convolutions follow. ``model.to(memory_format=...)``
    would convert every tensor with as many dimensions, and raises an error
    for MMAction2's recognizers.

    Args:
        model (nn.Module): Contains the convolutions.
        kinds (tuple): Their classes. Defaults to ``nn.Conv3d`` alone.

    Returns:
        list[Undo]: One for each convolution.
    """
    undo: List[Undo] = []
    for module in model.modules():
        if isinstance(module, kinds):
            weight, before = module.weight, module.weight.data
            layout = LAYOUTS[
                nn.Conv2d if isinstance(module, nn.Conv2d) else nn.Conv3d
            ]
            weight.data = before.contiguous(memory_format=layout)

            def put_back(
                weight: nn.Parameter = weight, before: torch.Tensor = before
            ) -> None:
                weight.data = before

            undo.append(put_back)
    return undo


def prefers_channels_last(
    model: nn.Module, kinds: tuple = (nn.Conv3d,)
) -> bool:
    """Returns whether channels-last is the faster layout by rule.

    It is for CNNs on a CPU. On a GPU the faster layout depends on the card,
    so the rule keeps the stock layout. The choice follows a rule and no
    measurement, so a repeated or resumed run computes the same numbers.

    Args:
        model (nn.Module): A recognizer. It is a CNN if more than half of the
            parameters of its backbone belong to convolutions of ``kinds``.
        kinds (tuple): Classes of convolutions. Defaults to ``nn.Conv3d``
            alone.
    """
    # The head is left out: it can be wider than a small backbone.
    parameters = list(model.backbone.parameters())
    dimensions = {4 if kind is nn.Conv2d else 5 for kind in kinds}
    convolved = sum(p.numel() for p in parameters if p.ndim in dimensions)
    is_cnn = 2 * convolved > sum(p.numel() for p in parameters)
    return is_cnn and parameters[0].device.type == 'cpu'


def channels_last(model: nn.Module, run: Run) -> List[Undo]:
    """Stores 2-D and 3-D CNNs channels-last where that is faster by rule."""
    kinds = tuple(LAYOUTS)
    if prefers_channels_last(model, kinds):
        return to_channels_last(model, kinds)
    return []
