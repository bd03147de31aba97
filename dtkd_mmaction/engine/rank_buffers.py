"""Buffers that differ between the processes, kept in a checkpoint.

The first process writes the checkpoints, but the statistics of BatchNorm are
those of each process's own batches until the end of an epoch. A run that is
resumed within an epoch needs all of them to continue exactly.
"""

import hashlib
from typing import Dict, List

import torch.nn as nn
from mmengine.dist import (
    all_gather_object,
    broadcast_object_list,
    get_rank,
    get_world_size,
)
from mmengine.model import is_model_wrapper
from torch import Tensor

KEY = 'rank_buffers'


def modules_with_buffers(runner) -> Dict[str, nn.Module]:
    """Returns the model and the moving averages kept by hooks, by name."""
    model = runner.model
    found = {'model': model.module if is_model_wrapper(model) else model}
    for hook in runner.hooks:
        if isinstance(getattr(hook, 'ema_model', None), nn.Module):
            found[type(hook).__name__] = hook.ema_model
    return found


def saved_buffers(module: nn.Module) -> Dict[str, Tensor]:
    """Returns the buffers in the state dict of a module."""
    names = {name for name, _ in module.named_buffers()}
    state = module.state_dict()
    return {name: state[name] for name in state if name in names}


def digest(tensor: Tensor) -> str:
    """Returns a hash of a tensor's values."""
    values = tensor.detach().cpu().contiguous().flatten()
    return hashlib.sha1(values.view(-1).numpy().tobytes()).hexdigest()


def gather_rank_buffers(runner) -> List[Dict[str, Dict[str, Tensor]]]:
    """Collects the buffers that differ from those of the first process.

    All processes must call it.

    Returns:
        list[dict[str, dict[str, Tensor]]]: For each process: name of the
            module -> name of the buffer -> values. Empty for one process.
    """
    if get_world_size() == 1:
        return []
    buffers = {
        name: saved_buffers(module)
        for name, module in modules_with_buffers(runner).items()
    }
    digests = {
        name: {key: digest(value) for key, value in values.items()}
        for name, values in buffers.items()
    }
    first = [digests]
    broadcast_object_list(first)
    own = {
        name: {
            key: value.cpu()
            for key, value in values.items()
            if digests[name][key] != first[0][name][key]
        }
        for name, values in buffers.items()
    }
    return all_gather_object(own)


def restore_rank_buffers(runner, checkpoint: dict) -> None:
    """Restores the buffers of this process from a checkpoint.

    Call it before the model is loaded, and after the averages are.

    Args:
        runner (Runner): Runner of the resumed training.
        checkpoint (dict): The checkpoint; its ``state_dict`` is modified in
            place.
    """
    kept = checkpoint.get(KEY, [])
    if len(kept) != get_world_size():
        return
    modules = modules_with_buffers(runner)
    for name, values in kept[get_rank()].items():
        if name == 'model':
            checkpoint['state_dict'].update(values)
        elif name in modules:
            state = modules[name].state_dict()
            for key, value in values.items():
                state[key].copy_(value)
