"""The fill rule behind MoViNet's parity values.

Weights and clips come from integer formulas of a tensor's role and shape, so
that networks written in other frameworks can be filled alike.
"""

import torch
import torch.nn as nn
from torch import Tensor

from dtkd_mmaction.backbones import MoViNet
from dtkd_mmaction.heads import MoViNetHead


def pattern(shape: tuple, a: int, b: int, c: int, m: int) -> Tensor:
    """((a i^2 + b i + c) mod m) / m - 0.5 of the flat index i, float64."""
    index = torch.arange(torch.Size(shape).numel())
    values = ((a * index * index + b * index + c) % m).double() / m - 0.5
    return values.reshape(shape)


def fill(module: nn.Module) -> nn.Module:
    """Fill a MoViNet or its head; float64, eval mode."""
    module = module.double().eval()
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if name.endswith(('alpha', 'pos_scale')):
                weight.fill_(0.5)
            elif 'norm' in name:
                weight.fill_(1.0 if name.endswith('weight') else 0.0)
            elif name.endswith('bias'):
                weight.copy_(0.1 * pattern(weight.shape, 0, 137, 5, 1009))
            else:
                values = pattern(weight.shape, 31, 7919, 17, 10007)
                weight.copy_(values * (24 / weight[0].numel()) ** 0.5)
    return module


def filled_network(arch: str, num_classes: int = 51, **kwargs) -> tuple:
    """Backbone and head."""
    backbone = MoViNet(arch, **kwargs)
    head = MoViNetHead(num_classes, backbone.out_channels)
    return fill(backbone), fill(head)


def clip(frames: int, height: int, width: int = None) -> Tensor:
    """(1, 3, T, H, W), float64."""
    shape = (1, 3, frames, height, width or height)
    return pattern(shape, 13, 101, 7, 9973)
