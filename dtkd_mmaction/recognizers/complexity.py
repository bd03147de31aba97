"""What a model costs: parameters, multiply-adds, memory for backward."""

import copy
import math
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config
from torch import Tensor

from .model_spec import build_recognizer, forget_pretraining


class Complexity(NamedTuple):
    """Cost of one clip.

    Attributes:
        parameters (int): Parameters of the whole recognizer with its head.
        macs (int): Multiply-adds of one forward pass on one clip; MMEngine,
            like the paper's tables, calls them FLOPs.
    """

    parameters: int
    macs: int


def measure_complexity(config: Config, frames: int, size: int) -> Complexity:
    """Counts a model's parameters and multiply-adds.

    Args:
        config (Config): Its ``model`` is a recognizer. No weights are loaded.
        frames (int): Frames of the clip.
        size (int): Height and width of the clip, in pixels.

    Returns:
        Complexity: For one clip.
    """
    config = copy.deepcopy(config)
    forget_pretraining(config.model)
    model = build_recognizer(config, 'model').eval()
    model.forward = lambda x: model.extract_feat(x, stage='head')[0]
    shape: Tuple[int, ...] = (1, 3, frames, size, size)
    if config.model.type == 'Recognizer2D':
        shape = (frames, 3, size, size)
    analyzer = FlopAnalyzer(model, torch.zeros(1, *shape))
    analyzer.set_op_handle('aten::scaled_dot_product_attention', attention)
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with torch.no_grad():
        macs = int(analyzer.total())
    return Complexity(sum(p.numel() for p in model.parameters()), macs)


def bytes_for_backward(forward: Callable[[], Any]) -> int:
    """Returns the bytes that autograd keeps for the backward pass.

    Args:
        forward (callable): Runs a forward pass. Its parameters count, too,
            where the pass keeps them.
    """
    kept: Dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage  # alive: no address comes twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        forward()
    return sum(storage.nbytes() for storage in kept.values())


def attention(inputs: List[Any], outputs: List[Any]) -> int:
    """Counts the multiply-adds of fused attention, which MMEngine ignores.

    Args:
        inputs (list): Graph values; queries (..., L, D) and keys (..., S, D)
            come first.
        outputs (list): Graph values.
    """
    queries, keys = (value.type().sizes() for value in inputs[:2])
    return 2 * math.prod(queries) * keys[-2]
