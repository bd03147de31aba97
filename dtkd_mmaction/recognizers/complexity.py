"""Parameters and multiply-adds of a stock model, as MMEngine counts them."""

import math
from typing import Any, List, NamedTuple

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config

from .model_spec import build_recognizer, forget_pretraining


class Complexity(NamedTuple):
    """What one clip costs.

    Attributes:
        parameters (int): Of the whole recognizer, its head included.
        macs (int): Multiply-adds of one forward of one clip; MMEngine, like
            the paper's tables, calls them FLOPs.
    """

    parameters: int
    macs: int


def measure_complexity(config: Config, frames: int, size: int) -> Complexity:
    """Count a model's parameters and multiply-adds.

    Args:
        config (Config): Its ``model`` is a recognizer. No weights are loaded.
        frames (int): Of the clip.
        size (int): Height and width of the clip, in pixels.

    Returns:
        Complexity: For one clip.
    """
    config = config.copy()
    forget_pretraining(config.model)
    model = build_recognizer(config, 'model').eval()
    model.forward = lambda x: model.extract_feat(x, stage='head')[0]
    shape = (1, 3, frames, size, size)
    if config.model.type == 'Recognizer2D':
        shape = (frames, 3, size, size)
    analyzer = FlopAnalyzer(model, torch.zeros(1, *shape))
    analyzer.set_op_handle('aten::scaled_dot_product_attention', attention)
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with torch.no_grad():
        macs = int(analyzer.total())
    return Complexity(sum(p.numel() for p in model.parameters()), macs)


def attention(inputs: List[Any], outputs: List[Any]) -> int:
    """Multiply-adds of fused attention, which MMEngine does not count.

    Args:
        inputs (list): Graph values; queries (..., L, D) and keys (..., S, D)
            come first.
        outputs (list): Graph values.
    """
    queries, keys = (value.type().sizes() for value in inputs[:2])
    return 2 * math.prod(queries) * keys[-2]
