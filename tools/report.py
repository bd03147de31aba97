"""Writes one HTML page about what distillation changed.

    python tools/report.py PROJECT --out report.html
    python tools/report.py WORK_DIR [WORK_DIR ...] --out report.html
    python tools/report.py --alone DIR [DIR ...] --distilled DIR [DIR ...]

The page needs no network and no server. It compares the student alone with
the distilled student: models and their cost, accuracy per class, confusions,
clips fixed and broken, curves, teacher weights, masks, configs (docs/
report.md). Several seeds of one training are put together.
"""

import argparse
import logging
import os
import os.path as osp
import sys
import warnings
from typing import List, Optional

warnings.simplefilter('ignore')

from mmengine.registry import init_default_scope  # noqa: E402
from reporting import comparison  # noqa: E402
from reporting.findings import collect  # noqa: E402
from reporting.page import render  # noqa: E402
from reporting.roles import Roles, assign_roles, teachers_of  # noqa: E402
from reporting.runs import (  # noqa: E402
    TrainedRun,
    find_work_dirs,
    read_trained_run,
)

from dtkd_mmaction.files import (  # noqa: E402
    DamagedFileError,
    read_text,
    write_text,
)

CLASSES, WORK_DIRS = 'classes.txt', 'work_dirs'


def count(text: str) -> int:
    """Parses a number that is not negative."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f'{text}: 0 or more is needed')
    return number


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        'folders',
        nargs='*',
        metavar='PROJECT or WORK_DIR',
        help='all trainings at or below these folders',
    )
    parser.add_argument(
        '--alone',
        nargs='+',
        metavar='DIR',
        help='work dirs of the student alone, one per seed',
    )
    parser.add_argument(
        '--distilled',
        nargs='+',
        metavar='DIR',
        help='work dirs of the distilled student, one per seed',
    )
    parser.add_argument('--out', default='report.html', metavar='FILE')
    parser.add_argument(
        '--classes',
        metavar='FILE',
        help=f'names of the classes, one per line; default: PROJECT/{CLASSES}',
    )
    parser.add_argument('--title', help='default: name of the folder')
    parser.add_argument(
        '--split',
        choices=('val', 'test'),
        default='val',
        help='list to compare on: that of val_dataloader (default) or of\n'
        'test_dataloader',
    )
    parser.add_argument(
        '--clips',
        type=count,
        default=12,
        metavar='N',
        help='fixed clips to show, and as many broken ones; default 12',
    )
    parser.add_argument(
        '--teacher-clips',
        type=count,
        default=64,
        metavar='N',
        help='clips about which the teachers are asked; default 64. 0 '
        'leaves out\ntheir weights by class and the masks',
    )
    args = parser.parse_args(argv)
    if not (args.folders or args.alone or args.distilled):
        parser.error(
            'Name a PROJECT, work dirs, or --alone DIR --distilled DIR.'
        )
    return args


def read_runs(folders: List[str], roots: List[str]) -> List[TrainedRun]:
    """Reads all trainings at or below folders.

    Raises:
        SystemExit: If a folder has none.
    """
    runs = []
    for folder in folders:
        project = osp.join(folder, WORK_DIRS)
        inner = project if osp.isdir(project) else folder
        found = find_work_dirs(inner)
        problems = []
        for work_dir in found:
            try:
                runs.append(read_trained_run(work_dir, roots))
            except ValueError as error:
                problems.append(str(error))
        if len(problems) == len(found):
            told = ' '.join(problems) or (
                'A training leaves WORK_DIR/*/vis_data/scalars.json and '
                'checkpoints.'
            )
            raise SystemExit(f'{inner}: no training was found. {told}')
        for problem in problems:
            print(f'Left out: {problem}', file=sys.stderr)
    return runs


def find_roles(args: argparse.Namespace) -> Roles:
    """Reads the trainings and finds out what each of them is."""
    roots = [os.getcwd(), *map(osp.abspath, args.folders)]
    runs = read_runs(args.folders, roots)
    alone = read_runs(args.alone or [], roots)
    distilled = read_runs(args.distilled or [], roots)
    for option, chosen, wanted in (
        ('--alone', alone, False),
        ('--distilled', distilled, True),
    ):
        for run in chosen:
            if run.is_distilled != wanted:
                what = 'a distiller' if run.is_distilled else 'no distiller'
                raise SystemExit(
                    f'{option} {run.work_dir}: its model, '
                    f'{run.config.model.get("type")}, is {what}.'
                )
    known = {run.work_dir: run for run in [*runs, *alone, *distilled]}
    if not (alone or distilled):
        return assign_roles(list(known.values()))
    if alone and distilled:
        teachers = teachers_of(distilled[0], list(known.values()))
        return Roles(alone, distilled, teachers)
    # The other half is found among the folders.
    roles = assign_roles(list(known.values()))
    if alone:
        roles.alone = alone
    else:
        roles.distilled = distilled
        roles.teachers = teachers_of(distilled[0], list(known.values()))
    return roles


def read_classes(args: argparse.Namespace) -> Optional[List[str]]:
    """Reads the names of the classes, if there is a list of them.

    Raises:
        SystemExit: If the file cannot be read.
    """
    path = args.classes
    if path is None:
        found = [osp.join(folder, CLASSES) for folder in args.folders]
        path = next(filter(osp.isfile, found), None)
    if path is None:
        return None
    try:
        lines = read_text(path).splitlines()
    except (OSError, DamagedFileError) as error:
        raise SystemExit(f'--classes {path}: {error}') from error
    return [line.strip() for line in lines if line.strip()]


def main(argv: Optional[List[str]] = None) -> None:
    """Reads, measures, writes the page and says what it holds."""
    args = parse_args(argv)
    logging.disable(logging.INFO)
    init_default_scope('mmaction')
    if osp.isdir(args.out):
        raise SystemExit(f'--out {args.out}: it is a folder, name a file.')
    classes = read_classes(args)
    roles = find_roles(args)
    folder = (args.folders or args.distilled or args.alone)[0]
    found = collect(
        args.title or osp.basename(osp.abspath(folder)),
        roles,
        classes,
        args.split,
        args.clips,
        args.teacher_clips,
    )
    page = render(found)
    try:
        write_text(args.out, page)
    except OSError as error:
        raise SystemExit(f'--out: {error}') from error
    if found.answers is not None and roles.alone and roles.distilled:
        right = found.right('alone'), found.right('distilled')
        print('\n'.join(comparison.verdict(*right)))
    for part, why in found.missing.items():
        print(f'Not on the page ({part}): {why}')
    print(f'{args.out}: {len(page.encode()) / 1e6:.1f} MB')


if __name__ == '__main__':
    main()
