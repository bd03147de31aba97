"""Exports the stock student of a distiller's checkpoint.

The output is a checkpoint in MMAction2's own format (and a config to test it
with), for plain MMAction2 without this package.
"""

import argparse
import os.path as osp

from mmengine.runner.checkpoint import CheckpointLoader, save_checkpoint

from dtkd_mmaction.deployment.student_export import (
    PARTS,
    config_file,
    student_checkpoint,
)
from dtkd_mmaction.files import write_text


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', help='checkpoint of a distillation run')
    parser.add_argument(
        '--out',
        help='file to write; default: <part>_<name> beside the checkpoint',
    )
    parser.add_argument(
        '--part',
        choices=PARTS,
        default='student',
        help='which model; only mutual learning (DML) has a peer',
    )
    parser.add_argument(
        '--config',
        help="the student's stock config; only for checkpoints of runs "
        'without StudentExportHook, if their config named a file',
    )
    return parser.parse_args()


def main() -> None:
    """Exports, and prints what was written."""
    args = parse_args()
    folder, name = osp.split(args.checkpoint)
    out = args.out or osp.join(folder, f'{args.part}_{name}')
    try:
        checkpoint = student_checkpoint(
            CheckpointLoader.load_checkpoint(args.checkpoint, 'cpu'),
            args.part,
            args.config,
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise SystemExit(f'{args.checkpoint}: {error}') from error
    save_checkpoint(checkpoint, out, backend_args=dict(backend='atomic_local'))
    weights = sum(t.numel() for t in checkpoint['state_dict'].values())
    print(
        f'{out}: {len(checkpoint["state_dict"])} tensors, '
        f'{weights / 1e6:.2f} M numbers'
    )
    if 'cfg' in checkpoint['meta']:
        config_path = osp.splitext(out)[0] + '_config.py'
        write_text(config_path, config_file(checkpoint['meta']['cfg']))
        print(f'{config_path}: tests it with plain MMAction2')


if __name__ == '__main__':
    main()
