"""Takes the stock student out of a distiller's checkpoint.

The output is a checkpoint in MMAction2's own format (and a config to test it
with), for plain MMAction2 without this package.
"""

import argparse
import os.path as osp

from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader, save_checkpoint

from dtkd_mmaction.deployment.student_export import PARTS, student_checkpoint


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
    return parser.parse_args()


def main() -> None:
    """Export, and say what was written."""
    args = parse_args()
    folder, name = osp.split(args.checkpoint)
    out = args.out or osp.join(folder, f'{args.part}_{name}')
    checkpoint = student_checkpoint(
        CheckpointLoader.load_checkpoint(args.checkpoint, map_location='cpu'),
        args.part,
    )
    save_checkpoint(checkpoint, out)
    weights = sum(t.numel() for t in checkpoint['state_dict'].values())
    print(
        f'{out}: {len(checkpoint["state_dict"])} tensors, '
        f'{weights / 1e6:.2f} M numbers'
    )
    if 'cfg' in checkpoint['meta']:
        config_path = osp.splitext(out)[0] + '_config.py'
        Config.fromstring(checkpoint['meta']['cfg'], '.py').dump(config_path)
        print(f'{config_path}: tests it with plain MMAction2')


if __name__ == '__main__':
    main()
