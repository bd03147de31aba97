"""Trains two teachers, and a student with and without them.

A ViT teacher and a CNN teacher learn from many clips. Then the same student
learns from few other clips, twice with the same number of steps: alone and
with DT-KD. ``tools/data/make_demo_clips.py`` generates the clips. Every seed
has its own clips, teachers and students.

    bash tools/demo.sh
    bash tools/demo.sh --seeds 0 1 2 --json demo.json
"""

import argparse
import os
import os.path as osp
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import List

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
warnings.simplefilter('ignore')

from data.make_demo_clips import CLASSES, make_clips  # noqa: E402
from demonstration import (  # noqa: E402
    SeedResult,
    Trainings,
    as_json,
    draw_picture,
    overview,
    predict_clips,
    print_tables,
    verdict,
)
from demonstration.predictions import student_checkpoint  # noqa: E402
from demonstration.trainings import LANES, RUNS  # noqa: E402, F401
from rich.console import Console  # noqa: E402
from rich.progress import (  # noqa: E402
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from dtkd_mmaction.files import write_json  # noqa: E402

CLIPS_PER_CLASS = dict(pretrain=128, train=15, val=50)


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--seeds',
        '--seed',
        type=int,
        nargs='+',
        default=[0],
        metavar='N',
        help='one repetition of everything per seed; default 0',
    )
    parser.add_argument(
        '--json', metavar='FILE', help='where to write every figure'
    )
    parser.add_argument(
        '--data',
        default=osp.join(ROOT, 'data/demo'),
        help='folder of the clips',
    )
    parser.add_argument(
        '--out',
        default=osp.join(ROOT, 'work_dirs/demo'),
        help='folder of the runs and the picture',
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=os.cpu_count() or LANES,
        help='trainings at the same time, each on one core; default: the '
        'number of cores, at least 2',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        help='passed on to all four trainings',
    )
    args = parser.parse_args()
    if len(set(args.seeds)) < len(args.seeds):
        parser.error(f'--seeds {args.seeds}: every seed can be given once.')
    return args


def run_seed(trainings: Trainings) -> SeedResult:
    """Generates the clips of a seed and runs its four trainings."""
    make_clips(
        trainings.data,
        clips_per_class=CLIPS_PER_CLASS['train'],
        val_per_class=CLIPS_PER_CLASS['val'],
        pretrain_per_class=CLIPS_PER_CLASS['pretrain'],
        seed=trainings.seed,
    )
    runs = trainings.run()
    return SeedResult(
        trainings.seed, runs, predict_clips(trainings.data, trainings.out)
    )


def run_seeds(args: argparse.Namespace, console: Console) -> List[SeedResult]:
    """Runs all seeds, as many at a time as there are cores for.

    Raises:
        RuntimeError: If a training fails; the others are stopped.
    """
    columns = [
        TextColumn('{task.description}'),
        BarColumn(),
        TextColumn('{task.fields[state]:<28}'),
        TimeElapsedColumn(),
    ]
    with Progress(*columns, console=console) as progress:
        trainings = [
            Trainings(
                seed,
                osp.abspath(osp.join(args.data, f'seed_{seed}')),
                osp.abspath(osp.join(args.out, f'seed_{seed}')),
                args.cfg_options,
                progress,
                f'seed {seed}: ' if len(args.seeds) > 1 else '',
            )
            for seed in args.seeds
        ]
        with ThreadPoolExecutor(max(1, args.jobs // LANES)) as pool:
            running = [pool.submit(run_seed, t) for t in trainings]
            try:
                for done in as_completed(running):
                    done.result()
            except BaseException:
                for t in trainings:
                    t.stop()
                raise
    return [done.result() for done in running]


def main() -> None:
    """Generates clips, trains, and prints tables and sentences."""
    args = parse_args()
    console = Console()
    start = time.perf_counter()
    clips = {
        split: len(CLASSES) * number
        for split, number in CLIPS_PER_CLASS.items()
    }
    console.print(overview(clips))
    try:
        results = run_seeds(args, console)
    except RuntimeError as error:
        sys.exit(str(error))
    print_tables(results, clips, console)
    picture = osp.join(args.out, 'demo.png')
    draw_picture(results, CLASSES, picture)
    if args.json:
        write_json(args.json, as_json(results, clips, CLASSES), indent=1)
    for sentence in verdict(results, clips):
        console.print(sentence)
    student = student_checkpoint(
        osp.join(args.out, f'seed_{args.seeds[0]}'), 'dtkd'
    )
    console.print(f'Picture: {picture}', soft_wrap=True)
    console.print(
        f'Student: {student} (a stock MMAction2 checkpoint; '
        'student_config.py beside it is its config)',
        soft_wrap=True,
    )
    console.print(f'All of it took {time.perf_counter() - start:.0f} s.')


if __name__ == '__main__':
    main()
