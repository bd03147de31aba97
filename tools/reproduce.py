"""One command a table of the paper: trains what is missing, prints it.

    python tools/reproduce.py table1 --data-root data --seeds 3 --dry-run
    python tools/reproduce.py table1 --data-root data --seeds 3 --gpus 8

Teachers come first, once. What is done is skipped; after a kill the same
command goes on (docs/reproduce.md).
"""

import argparse
import logging
import os
import os.path as osp
import sys
import warnings
from glob import glob
from typing import Any, Callable, Dict, List, Tuple

from mmengine.config import DictAction
from reproduction import (
    ConflictError,
    Counter,
    Launcher,
    Planner,
    Row,
    Run,
    State,
    Table,
    gpu_hours,
    json_table,
    markdown_table,
    measured_rows,
    read_tables,
    runs_in_order,
    state_of,
    text_table,
    train_all,
)
from reproduction.launching import move_aside
from reproduction.records import check_checkpoint
from rich.console import Console

from dtkd_mmaction.engine.resumable_train_loop import INTERRUPTED_EXIT_CODE
from dtkd_mmaction.files import write_text

TOOLS = osp.dirname(osp.abspath(__file__))
TABLES = osp.join(osp.dirname(TOOLS), 'configs', 'tables.yml')


def positive(text: str) -> int:
    """A number of things, of which there must be one at least."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'{text}: at least 1 is needed')
    return number


def seed(text: str) -> int:
    """What generators take as a seed."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f'{text}: 0 or more is needed')
    return number


def throughput(text: str) -> float:
    """10^12 operations a second."""
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f'{text}: more than 0 is needed')
    return number


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('table', help='table1 to table8, ucf6, ...')
    parser.add_argument(
        '--tables', default=TABLES, help='where tables are declared'
    )
    parser.add_argument('--data-root', default='data', metavar='DIR')
    parser.add_argument('--work-root', default='work_dirs', metavar='DIR')
    parser.add_argument(
        '--students',
        nargs='+',
        metavar='PREFIX',
        help='rows whose config file begins so, such as x3d_s',
    )
    parser.add_argument('--rows', nargs='+', metavar='NAME')
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument(
        '--seeds', type=positive, default=3, help='so many, from 0; default 3'
    )
    seeds.add_argument('--seed-list', type=seed, nargs='+', metavar='SEED')
    where = parser.add_argument_group('how to train')
    where.add_argument(
        '--gpus',
        type=positive,
        default=1,
        help='processes of one run; default 1',
    )
    where.add_argument(
        '--slurm',
        nargs='?',
        const='',
        metavar='PARTITION',
        help="submit each run; without a name, to the cluster's default",
    )
    where.add_argument(
        '--jobs',
        type=positive,
        default=1,
        help='runs at the same time; default 1',
    )
    where.add_argument(
        '--teacher-cache',
        metavar='DIR',
        help='of tools/cache_teachers.py, for the rows that it can serve',
    )
    where.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}
    )
    where.add_argument(
        '--retrain',
        action='store_true',
        help='move runs of another config aside and train them again',
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        '--dry-run', action='store_true', help='print the plan and its cost'
    )
    what.add_argument(
        '--print-only', action='store_true', help='print what there is now'
    )
    parser.add_argument(
        '--gpu-tflops',
        type=throughput,
        default=10,
        help='effective 10^12 operations a second of one GPU, for the plan',
    )
    parser.add_argument('--out', metavar='FILE.md', help='the table')
    parser.add_argument('--json', metavar='FILE', help='records of all runs')
    return parser.parse_args()


def config_name(row: Row) -> str:
    """The name of its config file, without folder and ``.py``."""
    return osp.splitext(osp.basename(row.config))[0]


def chosen(table: Table, args: argparse.Namespace) -> Table:
    """The table with the rows that were asked for."""
    rows = table.rows
    if args.rows:
        unknown = set(args.rows) - {row.name for row in rows}
        if unknown:
            raise SystemExit(
                f'--rows {sorted(unknown)}: {table.name} has '
                f'{[row.name for row in rows]}.'
            )
        rows = [row for row in rows if row.name in args.rows]
    for prefix in args.students or ():
        if not any(config_name(row).startswith(prefix) for row in rows):
            raise SystemExit(
                f'--students {prefix}: no row is left. The configs of '
                f'{table.name} are {sorted(set(map(config_name, rows)))}.'
            )
    if args.students:
        prefixes = tuple(args.students)
        rows = [row for row in rows if config_name(row).startswith(prefixes)]
    return table._replace(rows=rows)


def states(runs: List[Run]) -> Tuple[Dict[str, State], List[str]]:
    """How far each run is.

    Args:
        runs (list[Run]): With all teachers, which come first.

    Returns:
        tuple[dict[str, State], list[str]]: By run; and for each folder that
            holds another run, or a teacher that is wanted and no longer
            there, what is wrong with it.
    """
    found: Dict[str, State] = {}
    conflicts: List[str] = []
    for run in runs:
        try:
            found[run.name] = state_of(run)
        except ConflictError as conflict:
            found[run.name] = State.CONFLICT
            conflicts.append(str(conflict))
    wanted = {
        teacher.name: teacher
        for run in runs
        if found[run.name] is not State.DONE
        for teacher in run.teachers.values()
        if found[teacher.name] is State.DONE
    }
    for teacher in wanted.values():
        try:
            check_checkpoint(teacher)
        except ConflictError as conflict:
            found[teacher.name] = State.CONFLICT
            conflicts.append(str(conflict))
    for run in runs:
        # Its teacher will be another one.
        lost = any(
            found[t.name] is State.CONFLICT for t in run.teachers.values()
        )
        if lost and found[run.name] is not State.MISSING:
            found[run.name] = State.CONFLICT
    return found, conflicts


def left_to_do(runs: List[Run], state: Dict[str, State]) -> List[Run]:
    """Runs that are not done, after those of their teachers.

    Args:
        runs (list[Run]): Those of the table. A teacher that is none of them
            is trained for a student that is not done, not for its own sake.
        state (dict[str, State]): Of these and of all teachers.
    """
    unfinished = [run for run in runs if state[run.name] is not State.DONE]
    return [
        run
        for run in runs_in_order(unfinished)
        if state[run.name] is not State.DONE
    ]


def print_plan(
    runs: List[Run],
    state: Dict[str, State],
    args: argparse.Namespace,
    say: Callable[[str], None],
) -> None:
    """The runs in order, what each costs, and what they miss."""
    path = osp.join(args.work_root, 'reproduce', 'multiply_adds.json')
    counter = Counter(path, say)
    total = 0.0
    say(f'{"state":10} {"GPU hours":>9}  run')
    for run in runs:
        hours = gpu_hours(run, args.gpu_tflops, counter)
        total += hours or 0
        text = 'unknown' if hours is None else f'{hours:.2f}'
        text = '<0.01' if text == '0.00' else text
        say(f'{state[run.name].value:10} {text:>9}  {run.name}')
    say(
        f'{len(runs)} runs, {total:.2f} GPU hours at --gpu-tflops '
        f'{args.gpu_tflops:g}: training steps alone, without validation, '
        'and from the start where a run goes on.'
    )
    for line in missing_files(runs):
        say(line)


def missing_files(runs: List[Run]) -> List[str]:
    """Files that the runs read and that nothing here makes."""
    wanted = {
        path: how for run in runs for path, how in run.needed_files.items()
    }
    return [
        f'Missing: {path} ({how})'
        for path, how in wanted.items()
        if not osp.exists(path) and not glob(path)
    ]


def check_folders(args: argparse.Namespace) -> None:
    """Raise, before days of training, if something cannot be written."""
    folders = {}
    for option, path in (('--out', args.out), ('--json', args.json)):
        if path:
            folders[option] = osp.dirname(osp.abspath(path))
    if not (args.dry_run or args.print_only):
        folders['--work-root'] = args.work_root
    for option, folder in folders.items():
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise SystemExit(f'{option}: {error}') from error
        if not os.access(folder, os.W_OK):
            raise SystemExit(f'{option}: {folder} is not writable.')


def reproduce(args: argparse.Namespace, say: Callable[[Any], None]) -> int:
    """Plan, train, print.

    Returns:
        int: Exit code: 75 if the runs were interrupted, 1 if one failed,
            else 0.
    """
    tables = read_tables(args.tables)
    if args.table not in tables:
        raise SystemExit(f'{args.table}: choose one of {list(tables)}.')
    check_folders(args)
    table = chosen(tables[args.table], args)
    seeds = list(dict.fromkeys(args.seed_list or range(args.seeds)))
    planner = Planner(
        args.tables,
        args.data_root,
        args.work_root,
        args.cfg_options,
        args.teacher_cache,
    )
    runs = [run for row in table.rows for run in planner.runs(row, seeds)]
    with_teachers = runs_in_order(runs)
    state, conflicts = states(with_teachers)
    if conflicts and not (args.retrain or args.print_only):
        raise SystemExit('\n'.join(conflicts))
    todo = left_to_do(runs, state)
    if args.dry_run:
        print_plan(todo, state, args, say)
        return 0
    code = 0
    if not args.print_only and todo:
        launcher = Launcher(TOOLS, args.gpus, args.slurm, args.jobs)
        launcher.check()
        missing = missing_files(todo)
        if missing:
            raise SystemExit('\n'.join(missing))
        for run in todo:
            if state[run.name] is State.CONFLICT:
                say(f'{run.name}: moved to {move_aside(run)}')
        outcomes = set(train_all(todo, launcher, say).values())
        if 'interrupted' in outcomes:
            code = INTERRUPTED_EXIT_CODE
        elif outcomes != {'done'}:
            code = 1
    for conflict in states(with_teachers)[1]:
        say(f'Not in the table: {conflict}')
    rows = measured_rows(table, planner, seeds)
    say(text_table(table, rows))
    if args.out:
        with open(args.out, 'w') as f:
            f.write(markdown_table(table, rows))
    if args.json:
        write_text(args.json, json_table(table.title, rows))
    return code


def main() -> None:
    """Parses the command line."""
    # Models and configs that are merely looked at have nothing to say.
    logging.disable(logging.INFO)
    warnings.filterwarnings('ignore', message='pkg_resources is deprecated')
    # A table is as wide as it must be: a narrow terminal cuts no figure off.
    console = Console(highlight=False, soft_wrap=True, width=240)
    sys.exit(reproduce(parse_args(), console.print))


if __name__ == '__main__':
    main()
