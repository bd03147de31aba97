"""Measures what a model costs: parameters, MACs, file size, latency."""

import platform
import statistics
from typing import Any, Dict, NamedTuple, Optional, Tuple

import torch
import torch.nn as nn
from benchmarking.timing import Times
from inspection import innermost
from mmengine.config import Config
from mmengine.device import get_device

from dtkd_mmaction.recognizers.complexity import measure_complexity
from dtkd_mmaction.recognizers.model_spec import stock_clip

ROUNDS = 10


class Cost(NamedTuple):
    """Cost of one model.

    Attributes:
        clip (tuple[int, int]): Frames and size of one clip.
        parameters (int): Number of parameters.
        macs (int): Multiply-adds per clip.
        bytes (int): Size of the weights in a file, without optimizer.
    """

    clip: Tuple[int, int]
    parameters: int
    macs: int
    bytes: int


def evaluated_clip(config: Config, split: str) -> Tuple[int, int]:
    """Returns frames and size of the clips that a model is evaluated on.

    Args:
        config (Config): The config of a training.
        split (str): ``'val'`` or ``'test'``.
    """
    loader = config.get(f'{split}_dataloader')
    if loader:
        pipeline = innermost(loader.dataset).get('pipeline')
        config = Config(dict(train_pipeline=pipeline))
    clip = stock_clip(config)
    return clip['frames'], clip['size']


def measure_cost(
    config: Config, model: nn.Module, clip: Tuple[int, int]
) -> Cost:
    """Counts parameters, multiply-adds and bytes of a model.

    Args:
        config (Config): With the ``model``.
        model (nn.Module): The same, built.
        clip (tuple[int, int]): Frames and size.
    """
    complexity = measure_complexity(config, *clip)
    size = sum(t.numel() * t.element_size() for t in tensors_of(model))
    return Cost(clip, complexity.parameters, complexity.macs, size)


def tensors_of(model: nn.Module) -> list:
    """Returns the tensors that a checkpoint of the model holds."""
    return list(model.state_dict().values())


@torch.no_grad()
def measure_latencies(
    models: Dict[Any, Tuple[nn.Module, Tuple[int, int]]],
    rounds: int = ROUNDS,
) -> Dict[Any, float]:
    """Measures the time of one clip, the models in turn.

    Args:
        models (dict): Key -> recognizer in eval mode, and its clip.
        rounds (int): Forward passes of each model that count.

    Returns:
        dict: Key -> median in seconds.
    """
    variants = {}
    for key, (model, (frames, size)) in models.items():
        shape = (1, 1, 3, frames, size, size)
        if type(model).__name__ == 'Recognizer2D':
            shape = (1, frames, 3, size, size)
        clip = torch.rand(shape, device=get_device())
        variants[key] = _forward(model, clip)
    times = Times(variants, rounds)
    return {key: statistics.median(times.seconds[key]) for key in models}


def _forward(model: nn.Module, clip: torch.Tensor):
    return lambda: model.extract_feat(clip, stage='head')


def machine() -> str:
    """Names the processor and the threads with which latency is measured."""
    if get_device() != 'cpu':
        return torch.cuda.get_device_name()
    return f'{processor() or "CPU"}, {torch.get_num_threads()} threads'


def processor() -> Optional[str]:
    """Returns the name of the processor, if the system tells it."""
    try:
        with open('/proc/cpuinfo') as file:
            for line in file:
                if line.startswith('model name'):
                    return line.split(':', 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or None
