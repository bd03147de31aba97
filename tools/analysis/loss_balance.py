"""Compares the gradients of all losses at the student.

    python tools/analysis/loss_balance.py CONFIG

prints for every weighted loss, over some training batches: its value, the norm
    of its gradient with respect to the student's parameters, that norm
    relative to the label loss's, and the cosine between the two gradients. Use
    it to choose a loss weight: a loss whose gradient is many times larger than
    that of the label loss, and orthogonal to it, dominates the training.
    Without ``--checkpoint`` it measures the start of a training, otherwise the
    state of that checkpoint.
"""

import argparse
import sys
from itertools import chain, islice, repeat
from typing import Dict

import torch
from inspection import (
    build_distiller,
    load_exactly,
    read_checkpoint,
)
from mmengine.config import DictAction
from mmengine.runner import Runner, set_random_seed
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dtkd_mmaction.distillers import BaseDistiller

LABELS = 'loss_cls'


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('config', help='a distillation config')
    parser.add_argument(
        '--checkpoint',
        help='of a run with this config (not the exported student)',
    )
    parser.add_argument(
        '--batches', type=int, default=8, help='to average over; default 8'
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}
    )
    return parser.parse_args()


def measure(distiller: BaseDistiller, batch: dict) -> Dict[str, Tensor]:
    """Measures value and gradient of every loss on one batch.

    Args:
        distiller (BaseDistiller): In training mode.
        batch (dict): Batch of the data loader.

    Returns:
        dict[str, Tensor]: Loss -> its value, the norm of its gradient with
            respect to the student's parameters, that norm relative to the
            label loss's, and the cosine between the two gradients.

    Raises:
        ValueError: If no loss is the label loss.
    """
    data = distiller.data_preprocessor(batch, training=True)
    losses = distiller(**data, mode='loss')
    losses = {n: x.mean() for n, x in losses.items() if 'loss' in n}
    if LABELS not in losses:
        raise ValueError(
            f'The losses of this config are {list(losses)}; none is the '
            f'{LABELS} that they are compared with.'
        )
    parameters = [p for p in distiller.student.parameters() if p.requires_grad]

    def gradient(loss: Tensor) -> Tensor:
        parts = torch.autograd.grad(
            loss,
            parameters,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return torch.cat([part.flatten() for part in parts])

    towards_labels = gradient(losses[LABELS])
    measured = {}
    for name, loss in losses.items():
        own = gradient(loss)
        measured[name] = torch.stack(
            [
                loss.detach(),
                own.norm(),
                own.norm() / towards_labels.norm(),
                torch.cosine_similarity(own, towards_labels, dim=0),
            ]
        )
    return measured


def draw(measured: Dict[str, Tensor]) -> Table:
    """Draws the table for a terminal."""
    table = Table(box=box.SIMPLE)
    table.add_column('loss')
    for name in ('value', 'gradient', f'beside {LABELS}', 'cosine with it'):
        table.add_column(name, justify='right')
    for loss, figures in measured.items():
        value, norm, ratio, cosine = figures.tolist()
        table.add_row(
            loss,
            f'{value:.3f}',
            f'{norm:.2f}',
            f'{ratio:.1f}',
            f'{cosine:+.2f}',
        )
    return table


def balance(args: argparse.Namespace) -> Dict[str, Tensor]:
    """Averages :func:`measure` over training batches."""
    set_random_seed(args.seed)
    config, distiller = build_distiller(args.config, args.cfg_options)
    distiller.init_weights()
    if args.checkpoint:
        state = read_checkpoint(args.checkpoint)['state_dict']
        load_exactly(distiller, state, args.checkpoint)
    # Gradients without trust and without limit.
    distiller.trust, distiller.max_gradient_ratio = None, 0
    distiller.train()
    loader = Runner.build_dataloader(config.train_dataloader, args.seed)
    endless = chain.from_iterable(repeat(loader))
    batches = [
        measure(distiller, batch) for batch in islice(endless, args.batches)
    ]
    return {
        name: torch.stack([batch[name] for batch in batches]).mean(0)
        for name in batches[0]
    }


def main() -> None:
    """Parses the command line."""
    args = parse_args()
    if args.batches < 1:
        sys.exit(f'--batches {args.batches}: at least 1 is needed.')
    try:
        measured = balance(args)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    Console().print(draw(measured))


if __name__ == '__main__':
    main()
