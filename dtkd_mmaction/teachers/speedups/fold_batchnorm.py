"""BatchNorm in eval mode is linear: it goes into the convolution before."""

from typing import Iterator, List, NamedTuple, Union

import torch
import torch.nn as nn
from mmcv.cnn import ConvModule
from torch.nn.modules.batchnorm import _BatchNorm

from ...backbones.movinet_layers import ConvBlock
from .rewrite import Undo, replace_child

Convolution = Union[nn.Conv2d, nn.Conv3d]


class Pair(NamedTuple):
    """A convolution, and the BatchNorm that alone reads its output."""

    convolution: Convolution
    parent: nn.Module
    name: str

    @property
    def norm(self) -> nn.Module:
        """The BatchNorm."""
        return getattr(self.parent, self.name)


def fold_batchnorm(model: nn.Module) -> List[Undo]:
    """Scale weights and biases of convolutions by the BatchNorm behind.

    MMEngine's ``fuse_conv_bn`` leaves out ``Conv3d``. The first convolution
    stays as it is: its raw output is a tap (``stem``).
    """
    undo: List[Undo] = []
    for pair in pairs_in(model):
        convolution, norm = pair.convolution, pair.norm
        if convolution.in_channels == 3:
            continue
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        shape = (-1,) + (1,) * (convolution.weight.ndim - 1)
        bias = convolution.bias if convolution.bias is not None else 0
        bias = norm.bias + (bias - norm.running_mean) * scale
        weight = convolution.weight * scale.reshape(shape)
        undo += [
            replace_child(convolution, 'weight', frozen(weight)),
            replace_child(convolution, 'bias', frozen(bias)),
            replace_child(pair.parent, pair.name, nn.Identity()),
        ]
    return undo


def frozen(tensor: torch.Tensor) -> nn.Parameter:
    """A parameter that is not trained."""
    return nn.Parameter(tensor.detach(), requires_grad=False)


def pairs_in(model: nn.Module) -> Iterator[Pair]:
    """Where a BatchNorm surely follows a convolution and nothing else."""
    for module in list(model.modules()):
        found: List[Pair] = []
        if isinstance(module, ConvModule) and module.with_norm:
            if module.order[:2] == ('conv', 'norm'):
                convolution = module.conv
                if type(convolution).__name__ == 'Conv2plus1d':
                    found.append(Pair(convolution.conv_s, convolution, 'bn_s'))
                    convolution = convolution.conv_t
                found.append(Pair(convolution, module, module.norm_name))
        elif isinstance(module, ConvBlock):
            found.append(Pair(module.conv, module, 'norm'))
        elif type(module) is nn.Sequential:
            names = list(module._modules)
            found += [
                Pair(module._modules[name], module, following)
                for name, following in zip(names, names[1:])
            ]
        for pair in found:
            if (
                isinstance(pair.convolution, (nn.Conv2d, nn.Conv3d))
                and isinstance(pair.norm, _BatchNorm)
                and pair.norm.affine
                and pair.norm.track_running_stats
            ):
                yield pair
