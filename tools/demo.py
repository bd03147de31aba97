"""Trains the demo's four models and prints what each of them measured.

A ViT teacher and a CNN teacher, then the same student twice at the same
budget: alone and with DT-KD. Data: clips drawn by
``tools/data/make_demo_clips.py``.
"""

import argparse
import glob
import json
import os
import os.path as osp
import re
import shutil
import subprocess
import sys
import time
import warnings
from typing import Dict, List, NamedTuple

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
warnings.simplefilter('ignore')

import matplotlib  # noqa: E402
from mmengine.config import Config  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import (  # noqa: E402
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table  # noqa: E402

import dtkd_mmaction  # noqa: E402, F401
from dtkd_mmaction.recognizers.complexity import (  # noqa: E402
    Complexity,
    measure_complexity,
)
from dtkd_mmaction.recognizers.model_spec import stock_clip  # noqa: E402

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

# Config -> what the table calls it, in the order of training.
RUNS = dict(
    vit_teacher='ViT teacher',
    cnn_teacher='CNN teacher',
    student_alone='student alone',
    dtkd='student with DT-KD',
)
CLIPS_PER_CLASS = dict(train=96, val=25)


class Result(NamedTuple):
    """What one training measured.

    Attributes:
        epochs (list[int]): After which the model was validated.
        top1 (list[float]): Accuracy then, 0 to 1.
        scalars (list[dict]): Training scalars, one dict a logged step.
        seconds (float): Wall time of the training, validation included.
    """

    epochs: List[int]
    top1: List[float]
    scalars: List[dict]
    seconds: float


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', default=osp.join(ROOT, 'data/demo'))
    parser.add_argument('--out', default=osp.join(ROOT, 'work_dirs/demo'))
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        help='passed on to all four trainings',
    )
    return parser.parse_args()


def make_clips(folder: str) -> None:
    """Draw the data set, unless it is there."""
    subprocess.run(
        [
            sys.executable,
            osp.join(ROOT, 'tools/data/make_demo_clips.py'),
            '--out',
            folder,
            '--clips-per-class',
            str(CLIPS_PER_CLASS['train']),
            '--val-per-class',
            str(CLIPS_PER_CLASS['val']),
            '--frames',
            '36',  # the pipeline samples 8 over 32: the start varies by 4
            '--size',
            '32',  # what the models see
        ],
        check=True,
    )


def data_options(folder: str) -> List[str]:
    """``--cfg-options`` that point all loaders to the clips."""
    options = []
    for dataset, split in (
        ('train_dataloader.dataset.dataset', 'train'),  # of the keyed views
        ('val_dataloader.dataset', 'val'),
        ('test_dataloader.dataset', 'val'),
    ):
        options += [
            f'{dataset}.ann_file={folder}/demo_{split}_split_1_videos.txt',
            f'{dataset}.data_prefix.video={folder}/videos',
        ]
    return options


def train(
    name: str, out: str, options: List[str], progress: Progress
) -> Result:
    """Run one training through ``tools/train.py`` and read its log."""
    work_dir = osp.join(out, name)
    config = osp.join(ROOT, f'configs/demo/{name}.py')
    epochs = Config.fromfile(config).train_cfg.max_epochs
    command = [
        sys.executable,
        '-W',
        'ignore',
        osp.join(ROOT, 'tools/train.py'),
        config,
        '--work-dir',
        work_dir,
        '--cfg-options',
        *options,
    ]
    task = progress.add_task(RUNS[name], total=1, said='starts')
    start, lines, top1, epoch = time.perf_counter(), [], '', 0
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        # Threads that wait without spinning: a busy machine stays usable.
        env=dict(os.environ, OMP_WAIT_POLICY='PASSIVE'),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    for line in process.stdout:
        lines.append(line)
        accuracy = re.search(r'acc/top1: ([\d.]+)', line)
        if accuracy:
            top1 = f'top-1 {100 * float(accuracy[1]):.1f} %'
            if not progress.console.is_terminal:  # no bar in a file
                progress.console.print(
                    f'{RUNS[name]}: epoch {epoch}/{epochs} {top1}'
                )
        step = re.search(r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\]', line)
        if step:
            epoch, i, steps = map(int, step.groups())
            progress.update(
                task,
                total=epochs * steps,
                completed=(epoch - 1) * steps + i,
                said=f'epoch {epoch}/{epochs} {top1}',
            )
    if process.wait():
        sys.exit(f'{" ".join(command)} failed:\n{"".join(lines[-30:])}')
    progress.update(task, said=top1)
    seconds = time.perf_counter() - start
    log = sorted(glob.glob(f'{work_dir}/*/vis_data/scalars.json'))[-1]
    with open(log) as f:
        scalars = [json.loads(line) for line in f]
    return Result(
        [s['step'] for s in scalars if 'acc/top1' in s],
        [s['acc/top1'] for s in scalars if 'acc/top1' in s],
        [s for s in scalars if 'loss' in s],
        seconds,
    )


def complexity(name: str) -> Complexity:
    """Parameters and multiply-adds of the model that a run deploys."""
    deployed = name.replace('dtkd', 'student_alone')
    config = Config.fromfile(osp.join(ROOT, f'configs/demo/{deployed}.py'))
    clip = stock_clip(config)
    return measure_complexity(config, clip['frames'], clip['size'])


def show(results: Dict[str, Result], console: Console) -> None:
    """One table: what the four trainings ended with."""
    table = Table(title='Top-1 after the last epoch')
    for title in ('model', 'top-1 %', 'parameters', 'MMACs', 'training s'):
        table.add_column(
            title, justify='left' if title == 'model' else 'right'
        )
    for name, result in results.items():
        parameters, macs = complexity(name)
        table.add_row(
            RUNS[name],
            f'{100 * result.top1[-1]:.1f}',
            f'{parameters / 1e3:.0f} k',
            f'{macs / 1e6:.0f}',
            f'{result.seconds:.0f}',
        )
    console.print(table)
    gain = results['dtkd'].top1[-1] - results['student_alone'].top1[-1]
    console.print(
        f'DT-KD changes the student by {100 * gain:+.1f} points, in one run '
        f'with one seed on {8 * CLIPS_PER_CLASS["val"]} validation clips.'
    )


def plot(results: Dict[str, Result], path: str) -> None:
    """Accuracy of all runs; losses and teacher weights of DT-KD."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout='constrained')
    for name, result in results.items():
        axes[0].plot(
            result.epochs, [100 * x for x in result.top1], label=RUNS[name]
        )
    axes[0].set(title='Validation top-1', xlabel='epoch', ylabel='%')
    steps = results['dtkd'].scalars
    for key in ('loss_cls', 'loss_sr', 'loss_sd', 'loss_rkd'):
        axes[1].plot(
            [s['step'] for s in steps], [s[key] for s in steps], label=key
        )
    axes[1].set(title='Losses of DT-KD, weighted', xlabel='step', yscale='log')
    for key in ('datw/vit', 'datw/cnn', 'mask_kept'):
        axes[2].plot(
            [s['step'] for s in steps], [s[key] for s in steps], label=key
        )
    axes[2].set(title='Teacher weights, kept positions', xlabel='step')
    for axis in axes:
        axis.legend(fontsize='small')
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Clips, four trainings, one table, one picture."""
    args = parse_args()
    console = Console()
    start = time.perf_counter()
    make_clips(args.data)
    shutil.rmtree(args.out, ignore_errors=True)
    options = [
        *data_options(args.data),
        f'randomness.seed={args.seed}',
        *args.cfg_options,
    ]
    results = {}
    columns = [
        TextColumn('{task.description:<18}'),
        BarColumn(),
        TextColumn('{task.fields[said]:<28}'),
        TimeElapsedColumn(),
    ]
    with Progress(*columns, console=console) as progress:
        for name in RUNS:
            own = []
            if name == 'dtkd':
                own = [
                    f'model.{t}.checkpoint={args.out}/{t}/epoch_*.pth'
                    for t in ('vit_teacher', 'cnn_teacher')
                ]
            results[name] = train(name, args.out, options + own, progress)
    show(results, console)
    picture = osp.join(args.out, 'curves.png')
    plot(results, picture)
    student = sorted(glob.glob(f'{args.out}/dtkd/student_epoch_*.pth'))[-1]
    console.print(f'Curves:  {picture}')
    console.print(f'Student: {student} (a stock checkpoint)')
    console.print(f'All of it took {time.perf_counter() - start:.0f} s.')


if __name__ == '__main__':
    main()
