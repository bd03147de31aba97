"""Finds out whether the input of a head can be negative."""

from typing import Dict, Tuple

import torch
import torch.nn as nn
from torch import Tensor

from .feature_tap import FeatureTap
from .recording import tensors_in

# Their outputs are never negative.
NONNEGATIVE = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Softplus, nn.Hardsigmoid)
# Their outputs are not negative if their inputs are not.
KEEP_SIGN = (
    nn.Identity,
    nn.Flatten,
    nn.Dropout,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
)


def head_input_is_nonnegative(tap: FeatureTap, model_input: Tensor) -> bool:
    """Returns whether a recognizer's head reads outputs of a rectifier.

    Follows the tensors of one forward pass from the activation layers to the
    head, so the answer depends on the layers and not on weights or input. A
    rectifier that is no module is not found.

    Args:
        tap (FeatureTap): Tap of the recognizer.
        model_input (Tensor): Any batch that the recognizer takes.
    """
    # All tensors are kept, so that no address is used twice.
    found: Dict[int, Tuple[Tensor, int]] = {}

    def is_nonnegative(tensor: Tensor) -> bool:
        known = found.get(tensor.data_ptr())
        return (
            known is not None
            and known[0]._version == known[1]
            and known[0].shape.numel() == tensor.numel()
        )

    def on_module(module, inputs, output):
        if isinstance(module, NONNEGATIVE) or (
            isinstance(module, KEEP_SIGN)
            and all(map(is_nonnegative, tensors_in(list(inputs))))
        ):
            for tensor in tensors_in(output):
                found[tensor.data_ptr()] = tensor, tensor._version
            return
        for tensor in tensors_in(output):
            # Written into, or handed on as it is.
            if not is_nonnegative(tensor):
                found.pop(tensor.data_ptr(), None)

    handles = [
        module.register_forward_hook(on_module)
        for module in tap.recognizer.modules()
    ]
    verdict = []
    handles.append(
        tap.recognizer.cls_head.register_forward_pre_hook(
            lambda _, inputs: verdict.append(
                all(map(is_nonnegative, tensors_in(inputs[0])))
            )
        )
    )
    try:
        with torch.no_grad():
            tap.forward_once(model_input)
    finally:
        for handle in handles:
            handle.remove()
    return verdict[-1]
