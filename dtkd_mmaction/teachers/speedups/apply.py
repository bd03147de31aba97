"""Applies the exact rewrites to a frozen model and checks each of them."""

from contextlib import contextmanager
from typing import Callable, Dict, Iterator, List, Mapping

import torch
import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor

from .attention_weights import drop_attention_weights
from .channels_last import channels_last
from .drop_path import remove_drop_path
from .fold_batchnorm import fold_batchnorm
from .mvit_attention import fuse_mvit_attention
from .rewrite import Rewrite, Undo
from .swin_attention import fuse_swin_attention

REWRITES: Dict[str, Rewrite] = dict(
    remove_drop_path=remove_drop_path,
    fold_batchnorm=fold_batchnorm,
    mvit_attention=fuse_mvit_attention,
    swin_attention=fuse_swin_attention,
    attention_weights=drop_attention_weights,
    channels_last=channels_last,
)
# Largest difference, as a part of the standard deviation: of what the losses
# read as one vector a clip, and of maps, where millions of numbers are
# compared.
TOLERANCE, MAP_TOLERANCE = 5e-5, 5e-4
# Answers by name: 'logits', 'embedding', 'map', ...
Answers = Mapping[str, Tensor]


def optimise(
    model: nn.Module,
    answer: Callable[[], Answers],
    rewrites: Mapping[str, Rewrite],
    key: str,
) -> List[str]:
    """Rewrite a model in place, as far as it still gives the same answers.

    All rewrites are made and compared once; only where the answers differ is
    each made and compared alone, so that the one to blame is left out. So a
    model costs two forwards, and one more a rewrite where something is wrong.
    A model that draws its answers, as TRN's head does, is left as it is.

    Args:
        model (nn.Module): In eval mode, with its weights loaded.
        answer (callable): Runs the model on some clips.
        rewrites (Mapping[str, Rewrite]): Those to make, in this order.
        key (str): Where the config has the model, for messages.

    Returns:
        list[str]: Names of the rewrites that were made.
    """
    if not rewrites:
        return []
    with torch.no_grad(), full_float32():
        stock = answer()
        made, undo = apply_all(model, rewrites)
        if not disagreement(stock, answer):
            return made
        take_back(undo)
        problem = disagreement(stock, answer)
        if problem:
            print_log(
                f'{key}: no rewrite is made, because the model itself gives '
                f'other answers to the same clips: {problem}. '
                'optimise=False saves this check.',
                'current',
                level=30,
            )
            return []
        made = []
        for name, rewrite in rewrites.items():
            found, undo = apply_all(model, {name: rewrite})
            problem = disagreement(stock, answer) if undo else ''
            if problem:
                take_back(undo)
                print_log(
                    f'{key}: the rewrite {name!r} is left out: {problem}. '
                    f'optimise=dict({name}=False) switches it off.',
                    'current',
                    level=30,
                )
            else:
                made += found
    return made


@contextmanager
def full_float32() -> Iterator[None]:
    """No TF32, in which NVIDIA cards convolve unless told otherwise.

    It keeps ten bits: a folded weight is then rounded to another number than
    the stock one, and the difference drowns what is looked for.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('highest')
    cudnn = torch.backends.cudnn
    try:
        with cudnn.flags(enabled=cudnn.enabled, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def apply_all(model: nn.Module, rewrites: Mapping[str, Rewrite]) -> tuple:
    """Make rewrites; names of those that found something, and all undos."""
    made: List[str] = []
    undo: List[Undo] = []
    for name, rewrite in rewrites.items():
        changes = rewrite(model)
        if changes:
            made.append(name)
            undo += changes
    return made, undo


def take_back(undo: List[Undo]) -> None:
    """Undo changes, the last one first."""
    for change in reversed(undo):
        change()


def disagreement(stock: Answers, answer: Callable[[], Answers]) -> str:
    """In words, how the answers differ; empty where they do not."""
    try:
        found = answer()
    except Exception as error:
        return f'{type(error).__name__}: {error}'
    for name, wanted in stock.items():
        distance = (found[name] - wanted).abs().max()
        # of a constant, the rounding of its size
        scale = max(float(wanted.std()), 1e-2 * float(wanted.abs().max()))
        is_vector = wanted.ndim == 2
        tolerance = TOLERANCE if is_vector else MAP_TOLERANCE
        if not distance <= tolerance * scale:
            return (
                f'{name} differs by {float(distance):.2e}, {tolerance:.0e} '
                f'of {scale:.2e} is allowed'
            )
    return ''
