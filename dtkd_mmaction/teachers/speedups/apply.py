"""Applies the exact rewrites to a frozen model and checks each of them."""

from contextlib import contextmanager
from typing import Dict, Iterator, List, Mapping, Tuple

import torch
import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor

from .attention_weights import drop_attention_weights
from .channels_last import channels_last
from .drop_path import remove_drop_path
from .fold_batchnorm import fold_batchnorm
from .mvit_attention import fuse_mvit_attention
from .rewrite import Rewrite, Run, Undo
from .swin_attention import fuse_swin_attention
from .timm_attention import fuse_timm_attention

# In the order in which they are applied.
SPEEDUPS: Dict[str, Rewrite] = dict(
    remove_drop_path=remove_drop_path,
    fold_batchnorm=fold_batchnorm,
    mvit_attention=fuse_mvit_attention,
    swin_attention=fuse_swin_attention,
    timm_attention=fuse_timm_attention,
    attention_weights=drop_attention_weights,
    channels_last=channels_last,
)
# Largest difference as a part of the standard deviation: of vectors per clip
# (logits, embedding), and of maps, where millions of numbers are compared.
TOLERANCE, MAP_TOLERANCE = 5e-5, 5e-4


def apply_speedups(
    model: nn.Module, run: Run, speedups: Mapping[str, Rewrite], key: str
) -> List[str]:
    """Rewrites a model in place as far as its outputs stay the same.

    All rewrites are applied and checked once. Only if the outputs differ is
    each applied and checked alone, so that the wrong one is left out. So a
    model costs two forward passes, and one more per rewrite if something is
    wrong. A model whose outputs are random, as TRN's head draws frames, is
    left as it is.

    Args:
        model (nn.Module): In eval mode, with its weights loaded.
        run (callable): Runs the model on some clips.
        speedups (Mapping[str, Rewrite]): Rewrites to apply, in this order.
        key (str): Config key of the model, for messages.

    Returns:
        list[str]: Names of the rewrites that were applied.
    """
    if not speedups:
        return []
    with torch.no_grad(), full_float32():
        stock = run()
        applied, difference = try_out(model, run, speedups, stock)
        if not difference:
            return applied
        _, difference = try_out(model, run, {}, stock)
        if difference:
            print_log(
                f'{key}: no speedup is applied, because the outputs of the '
                f'model itself change from call to call: {difference}. '
                'Set speedups=False to skip this check.',
                'current',
                level=30,
            )
            return []
        applied = []
        for name, rewrite in speedups.items():
            found, difference = try_out(model, run, {name: rewrite}, stock)
            applied += found
            if difference:
                print_log(
                    f'{key}: the speedup {name!r} is left out: {difference}. '
                    f'Set speedups=dict({name}=False) to skip it.',
                    'current',
                    level=30,
                )
    return applied


def try_out(
    model: nn.Module,
    run: Run,
    speedups: Mapping[str, Rewrite],
    stock: Mapping[str, Tensor],
) -> Tuple[List[str], str]:
    """Applies rewrites, and undoes them if the outputs differ.

    Args:
        model (nn.Module): Changed in place.
        run (callable): Runs the model on some clips.
        speedups (Mapping[str, Rewrite]): Rewrites to apply.
        stock (Mapping[str, Tensor]): Outputs to compare with.

    Returns:
        tuple[list[str], str]: Names of the rewrites that changed something,
            and the difference in words. One of the two is empty.
    """
    applied: List[str] = []
    undo: List[Undo] = []
    try:
        for name, rewrite in speedups.items():
            changes = rewrite(model, run)
            undo += changes
            applied += [name] if changes else []
        if applied or not speedups:
            difference = find_difference(stock, run())
        else:
            difference = ''
    except Exception as error:
        difference = f'{type(error).__name__}: {error}'
    if difference:
        undo_all(undo)
        applied = []
    return applied, difference


@contextmanager
def full_float32() -> Iterator[None]:
    """Switches TF32 off, which NVIDIA cards use in convolutions by default.

    TF32 keeps ten bits of a number. Folded weights round differently from
    stock ones, and this difference would hide the one to look for.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('highest')
    cudnn = torch.backends.cudnn
    try:
        with cudnn.flags(enabled=cudnn.enabled, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def undo_all(undo: List[Undo]) -> None:
    """Undoes changes, the last one first."""
    for change in reversed(undo):
        change()


def find_difference(
    stock: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> str:
    """Compares outputs of a model with the stock ones.

    Returns:
        str: The first difference in words; empty if there is none.
    """
    for name, wanted in stock.items():
        distance = (found[name] - wanted).abs().max()
        # For constant outputs: the size of their rounding errors.
        scale = max(float(wanted.std()), 1e-2 * float(wanted.abs().max()))
        is_vector = wanted.ndim == 2
        tolerance = TOLERANCE if is_vector else MAP_TOLERANCE
        if not distance <= tolerance * scale:
            return (
                f'{name} differs by {float(distance):.2e}, {tolerance:.0e} '
                f'of {scale:.2e} is allowed'
            )
    return ''
