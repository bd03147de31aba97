"""Folds BatchNorm in eval mode, which is linear, into convolutions."""

from typing import Any, Dict, List, NamedTuple, Optional

import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from .rewrite import Run, Undo, replace_attribute

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
PLAIN_FORWARDS = (_BatchNorm.forward, nn.SyncBatchNorm.forward)


class Pair(NamedTuple):
    """A convolution, and the BatchNorm that alone reads its output.

    Attributes:
        convolution (nn.Module): Its output depends linearly on its weight.
        norm (nn.Module): The BatchNorm.
        rest (nn.Module): Layers of ``norm`` after normalising, such as an
            activation.
    """

    convolution: nn.Module
    norm: nn.Module
    rest: nn.Module


def fold_batchnorm(model: nn.Module, run: Run) -> List[Undo]:
    """Scales weights and biases of convolutions by the BatchNorm behind them.

    The pairs are found by watching one forward pass, so the rewrite works for
    models of any package. MMEngine's ``fuse_conv_bn`` skips ``Conv3d``, and
    convolutions outside of its own modules. A convolution whose raw output
    ``run`` returns or reads, such as the stem, stays as it is.
    """
    undo: List[Undo] = []
    for convolution, norm, rest in find_pairs(model, run):
        weight, bias = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        undo += [
            replace_attribute(convolution, 'weight', weight),
            replace_attribute(convolution, 'bias', bias),
        ]
        undo += [
            replace_attribute(parent, name, rest)
            for parent in list(model.modules())
            for name, child in list(parent._modules.items())
            if child is norm
        ]
    return undo


def find_pairs(model: nn.Module, run: Run) -> List[Pair]:
    """Finds the convolutions whose output only one BatchNorm reads."""
    with WatchConvolutions(model) as watched:
        returned = run()
        read = watched.read | {
            watched.outputs[tensor]
            for tensor in returned.values()
            if tensor in watched.outputs
        }
    pairs = []
    for convolution, norm in watched.normalised.items():
        rest = after_normalising(norm)
        if (
            convolution not in read
            and watched.calls[convolution] == watched.calls[norm] == 1
            and rest is not None
            and is_linear_in_weight(convolution)
        ):
            pairs.append(Pair(convolution, norm, rest))
    return pairs


class WatchConvolutions(TorchDispatchMode):
    """Records what reads the outputs of convolutions in a forward pass.

    Args:
        model (nn.Module): Contains the convolutions.

    Attributes:
        calls (dict): Convolution or BatchNorm -> number of calls.
        outputs (dict): Output that is still alive -> its convolution.
        normalised (dict): Convolution -> BatchNorm that reads its output.
        read (set): Convolutions whose output something else reads, too.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.calls: Dict[nn.Module, int] = {}
        self.outputs = WeakTensorKeyDictionary()
        self.normalised: Dict[nn.Module, nn.Module] = {}
        self.read: set = set()
        self._inside: Optional[nn.Module] = None
        self._handles = []
        for module in model.modules():
            if isinstance(module, CONVOLUTIONS):
                hook = module.register_forward_hook(self._after_convolution)
                self._handles.append(hook)
            elif isinstance(module, _BatchNorm):
                self._handles += [
                    module.register_forward_pre_hook(self._before_norm),
                    module.register_forward_hook(self._after_norm),
                ]

    def __exit__(self, *error: Any) -> None:
        """Stops watching."""
        super().__exit__(*error)
        for handle in self._handles:
            handle.remove()

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        """Notes which outputs an operator reads, and runs it."""
        kwargs = kwargs or {}
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor) and value in self.outputs:
                convolution = self.outputs[value]
                if self.normalised.get(convolution) is not self._inside or (
                    self._inside is None
                ):
                    self.read.add(convolution)
        return operator(*args, **kwargs)

    def _count(self, module: nn.Module) -> None:
        self.calls[module] = self.calls.get(module, 0) + 1

    def _after_convolution(
        self, module: nn.Module, args: tuple, output: Tensor
    ) -> None:
        self._count(module)
        self.outputs[output] = module

    def _before_norm(self, module: nn.Module, args: tuple) -> None:
        self._count(module)
        if args and args[0] in self.outputs:
            # A second BatchNorm on the same output counts as a reader.
            self.normalised.setdefault(self.outputs[args[0]], module)
        self._inside = module

    def _after_norm(
        self, module: nn.Module, args: tuple, output: Tensor
    ) -> None:
        self._inside = None


def after_normalising(norm: nn.Module) -> Optional[nn.Module]:
    """Returns what a BatchNorm does after normalising.

    Args:
        norm (nn.Module): A BatchNorm, or one of timm's with an activation.

    Returns:
        nn.Module, optional: None if it cannot be told, or if the statistics
            are those of the batch.
    """
    if norm.running_mean is None or norm.training:
        return None
    if type(norm).forward in PLAIN_FORWARDS:
        return nn.Identity()
    if type(norm).__module__.startswith('timm.'):  # BatchNormAct2d
        parts = [getattr(norm, name, None) for name in ('drop', 'act')]
        if all(isinstance(part, nn.Module) for part in parts):
            parts = [p for p in parts if not isinstance(p, nn.Identity)]
            return parts[0] if len(parts) == 1 else nn.Sequential(*parts)
    return None


def is_linear_in_weight(convolution: nn.Module) -> bool:
    """Returns whether twice the weight gives twice the output.

    It does not for convolutions that standardise or normalise their weight.
    """
    if convolution._forward_pre_hooks or hasattr(
        convolution, 'parametrizations'
    ):  # they may compute the weight
        return False
    if type(convolution) in CONVOLUTIONS:
        return True
    weight = convolution.weight
    sizes = [
        dilation * (kernel - 1) + 1
        for kernel, dilation in zip(
            convolution.kernel_size, convolution.dilation
        )
    ]
    generator = torch.Generator().manual_seed(0)
    example = torch.randn(
        2, convolution.in_channels, *sizes, generator=generator
    ).to(weight)
    zero = convolution(torch.zeros_like(example))
    once = convolution(example) - zero
    undo = replace_attribute(
        convolution, 'weight', nn.Parameter(2 * weight, requires_grad=False)
    )
    try:
        twice = convolution(example) - zero
    finally:
        undo()
    return torch.allclose(twice, 2 * once, rtol=1e-3, atol=1e-6)
