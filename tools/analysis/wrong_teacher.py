"""Makes a teacher that is sure and wrong, to test how losses weigh teachers.

    python tools/analysis/wrong_teacher.py TEACHER.pth --out WRONG.pth

Moves every row of the classification layer to the next class, so that the
teacher says class 1 with the score that it had for class 0. Its features and
its confidence stay what they were; a teacher that is always right becomes one
that is always wrong.
"""

import argparse
import os.path as osp
from typing import Dict, List

import torch
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

import dtkd_mmaction  # noqa: F401  (reads checkpoints safely)
from dtkd_mmaction.files import atomic_file

HEAD = 'cls_head.'


def class_rows(state_dict: Dict[str, Tensor]) -> List[str]:
    """Returns the keys of the last layer of the head: weight and bias.

    Raises:
        ValueError: If the head has no layer with weight and bias.
    """
    weights = [
        key
        for key, value in state_dict.items()
        if key.startswith(HEAD) and key.endswith('.weight') and value.ndim > 1
    ]
    if not weights:
        raise ValueError(
            f'no key begins with {HEAD!r} and ends with ".weight". Expected '
            'a checkpoint of a stock recognizer, such as '
            'tools/probe_teacher.py writes.'
        )
    layer = weights[-1][: -len('weight')]  # the last one classifies
    return [key for key in state_dict if key.startswith(layer)]


def exchange_classes(state_dict: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Returns a state dict that answers with the class behind the right one.

    Args:
        state_dict (dict[str, Tensor]): Of a stock recognizer.
    """
    rows = class_rows(state_dict)
    return {
        key: value.roll(1, dims=0) if key in rows else value
        for key, value in state_dict.items()
    }


def main() -> None:
    """Reads a checkpoint and writes the wrong one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('checkpoint')
    parser.add_argument('--out', required=True, metavar='FILE')
    args = parser.parse_args()
    if osp.exists(args.out):
        raise SystemExit(
            f'--out: {args.out} exists already. Remove it, or name another.'
        )
    try:
        checkpoint = CheckpointLoader.load_checkpoint(args.checkpoint, 'cpu')
        state = exchange_classes(checkpoint.get('state_dict', checkpoint))
    except (OSError, ValueError) as error:
        raise SystemExit(f'{args.checkpoint}: {error}') from error
    with atomic_file(args.out) as file:
        torch.save(
            dict(meta=checkpoint.get('meta', {}), state_dict=state), file
        )
    print(
        f'{args.out}: {", ".join(class_rows(state))} of {args.checkpoint}, '
        'each row moved to the next class.'
    )


if __name__ == '__main__':
    main()
