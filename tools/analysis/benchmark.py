"""Measures the cost of distillation as ratios of times in one run.

    python tools/analysis/benchmark.py --out benchmark.md --json benchmark.json

Variants run in turn, round after round, and are compared within a round, so
that changes in the machine's speed cancel. The report has the median ratio,
its range, and the ratio of CPU times, which other processes affect little.
Weights are random at the scale of trained ones, and clips are generated, so
nothing is downloaded. Use fewer ``--rounds``, some of the ``--groups``, a
smaller ``--batch`` or smaller views to save time.
"""

import argparse
import os.path as osp
import sys
import tempfile
from pathlib import Path
from typing import List

import torch
from benchmarking.backbones import measure_backbones
from benchmarking.export import measure_export
from benchmarking.loading import measure_loading
from benchmarking.losses import measure_losses
from benchmarking.methods import measure_methods
from benchmarking.report import as_json, as_markdown, setting_of
from benchmarking.steps import measure_steps
from benchmarking.teachers import measure_teachers
from benchmarking.timing import Row
from benchmarking.workbench import Workbench
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from dtkd_mmaction.files import write_json, write_text

ROOT = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
MEASUREMENTS = dict(
    steps=measure_steps,
    teachers=measure_teachers,
    backbones=measure_backbones,
    losses=measure_losses,
    methods=measure_methods,
    loading=measure_loading,
    export=measure_export,
)


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        '--config',
        default=osp.join(ROOT, 'configs/dtkd/x3d_s_hmdb51.py'),
        help='config of a DualTeacherDistiller; its weights are not loaded',
    )
    parser.add_argument(
        '--groups',
        nargs='+',
        choices=list(MEASUREMENTS),
        default=list(MEASUREMENTS),
    )
    parser.add_argument('--batch', type=int, default=4, help='at least 2')
    parser.add_argument('--rounds', type=int, default=3)
    for model in ('student', 'teacher'):
        parser.add_argument(
            f'--{model}-view',
            nargs=2,
            type=int,
            metavar=('FRAMES', 'SIZE'),
            help="default: that of the config's `view`",
        )
    parser.add_argument(
        '--compile',
        action='store_true',
        help='measure compiled teachers, too, which takes minutes',
    )
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    parser.add_argument('--threads', type=int, help="default: PyTorch's")
    parser.add_argument('--out', type=Path, help='Markdown file')
    parser.add_argument('--json', type=Path, help='JSON file')
    args = parser.parse_args()
    if args.batch < 2:
        parser.error(
            f'--batch {args.batch}: give 2 or more, because one clip selects '
            'other kernels and relations need two.'
        )
    if args.rounds < 1:
        parser.error(f'--rounds {args.rounds}: give 1 or more.')
    return args


def main() -> None:
    """Measures, prints and writes."""
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    init_default_scope('mmaction')
    # Shows warnings about omitted speedups, but no details of building models.
    MMLogger.get_current_instance().setLevel('WARNING')
    rows: List[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Workbench(args, Path(folder))
        for group in args.groups:
            print(f'Measuring {group} ...', file=sys.stderr)
            rows += MEASUREMENTS[group](bench)
    setting = setting_of(args)
    text = as_markdown(rows, setting)
    print(text)
    if args.out:
        write_text(args.out, text)
    if args.json:
        write_json(args.json, as_json(rows, setting), indent=1)


if __name__ == '__main__':
    main()
