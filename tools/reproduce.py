"""Trains the missing runs of a table of the paper and prints the table.

    python tools/reproduce.py table1 --data-root data --seeds 3 --dry-run
    python tools/reproduce.py table1 --data-root data --seeds 3 --gpus 8

Teachers are trained first, once. Finished runs are skipped. After an
interruption, the same command continues (docs/reproduce.md).
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
from reproduction.plan import read_declaration
from reproduction.records import check_checkpoint
from rich.console import Console

from dtkd_mmaction.engine.resumable_train_loop import INTERRUPTED_EXIT_CODE
from dtkd_mmaction.files import write_text

TOOLS = osp.dirname(osp.abspath(__file__))
TABLES = osp.join(osp.dirname(TOOLS), 'configs', 'tables.yml')
SEEDS = 3


def positive(text: str) -> int:
    """Parses a number that is at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'{text}: at least 1 is needed')
    return number


def seed(text: str) -> int:
    """Parses a seed: an integer that is not negative."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f'{text}: 0 or more is needed')
    return number


def throughput(text: str) -> float:
    """Parses a throughput in 10^12 operations per second."""
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f'{text}: more than 0 is needed')
    return number


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'table',
        nargs='?',
        help='table1 to table8, ucf6, ...; not needed if there is one',
    )
    parser.add_argument(
        '--tables', default=TABLES, help='file that declares the tables'
    )
    parser.add_argument('--data-root', default='data', metavar='DIR')
    parser.add_argument(
        '--work-root',
        metavar='DIR',
        help='default: as --tables declares it, or work_dirs',
    )
    parser.add_argument(
        '--students',
        nargs='+',
        metavar='PREFIX',
        help='rows whose config name begins with this, such as x3d_s',
    )
    parser.add_argument('--rows', nargs='+', metavar='NAME')
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument(
        '--seeds',
        type=positive,
        help='number of seeds, from 0; default: as --tables declares it, or 3',
    )
    seeds.add_argument('--seed-list', type=seed, nargs='+', metavar='SEED')
    where = parser.add_argument_group('how to train')
    where.add_argument(
        '--gpus',
        type=positive,
        default=1,
        help='processes per run; default 1',
    )
    where.add_argument(
        '--slurm',
        nargs='?',
        const='',
        metavar='PARTITION',
        help='submit each run to this partition; default: that of the cluster',
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
        help='folder of tools/cache_teachers.py, for the rows that can use it',
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
        '--dry-run',
        action='store_true',
        help='print the plan and its cost only',
    )
    what.add_argument(
        '--print-only', action='store_true', help='print existing results only'
    )
    parser.add_argument(
        '--gpu-tflops',
        type=throughput,
        default=10,
        help='effective 10^12 operations per second and GPU, for the plan',
    )
    parser.add_argument(
        '--out', metavar='FILE.md', help='Markdown file for the table'
    )
    parser.add_argument('--json', metavar='FILE', help='records of all runs')
    return parser.parse_args()


def config_name(row: Row) -> str:
    """Returns the name of its config file without folder and ``.py``."""
    return osp.splitext(osp.basename(row.config))[0]


def chosen(table: Table, args: argparse.Namespace) -> Table:
    """Returns the table with the requested rows."""
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
    """Returns the state of each run.

    Args:
        runs (list[Run]): All runs, teachers first.

    Returns:
        tuple[dict[str, State], list[str]]: State by run; and one message per
            folder that contains another run, or lacks the checkpoint of a
            teacher that is needed.
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
        # Its teacher will change.
        lost = any(
            found[t.name] is State.CONFLICT for t in run.teachers.values()
        )
        if lost and found[run.name] is not State.MISSING:
            found[run.name] = State.CONFLICT
    return found, conflicts


def left_to_do(runs: List[Run], state: Dict[str, State]) -> List[Run]:
    """Returns the runs that are not done, teachers before students.

    Args:
        runs (list[Run]): Runs of the table. A teacher that is not among them
            is trained only if a student that is not done needs it.
        state (dict[str, State]): State of these and of all teachers.
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
    print_line: Callable[[str], None],
) -> None:
    """Prints the runs in order, their costs and the missing files."""
    path = osp.join(args.work_root, 'reproduce', 'multiply_adds.json')
    counter = Counter(path, print_line)
    total = 0.0
    print_line(f'{"state":10} {"GPU hours":>9}  run')
    for run in runs:
        hours = gpu_hours(run, args.gpu_tflops, counter)
        total += hours or 0
        text = 'unknown' if hours is None else f'{hours:.2f}'
        text = '<0.01' if text == '0.00' else text
        print_line(f'{state[run.name].value:10} {text:>9}  {run.name}')
    print_line(
        f'{len(runs)} runs, {total:.2f} GPU hours at --gpu-tflops '
        f'{args.gpu_tflops:g}: training steps alone, without validation, '
        'and from the start where a run goes on.'
    )
    for line in missing_files(runs):
        print_line(line)


def missing_files(runs: List[Run]) -> List[str]:
    """Returns the missing files that no run creates."""
    wanted = {
        path: how for run in runs for path, how in run.needed_files.items()
    }
    return [
        f'Missing: {path} ({how})'
        for path, how in wanted.items()
        if not osp.exists(path) and not glob(path)
    ]


def check_folders(args: argparse.Namespace) -> None:
    """Raises an error, before training, if a folder is not writable."""
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


def seeds_of(args: argparse.Namespace) -> int:
    """Returns the number of seeds."""
    return args.seeds or read_declaration(args.tables).get('seeds', SEEDS)


def reproduce(
    args: argparse.Namespace, print_line: Callable[[Any], None]
) -> int:
    """Plans, trains and prints.

    Returns:
        int: Exit code: 75 if the runs were interrupted, 1 if one failed,
            else 0.
    """
    tables = read_tables(args.tables)
    name = args.table or (next(iter(tables)) if len(tables) == 1 else None)
    if name not in tables:
        raise SystemExit(f'{name}: choose one of {list(tables)}.')
    table = chosen(tables[name], args)
    seeds = list(dict.fromkeys(args.seed_list or range(seeds_of(args))))
    planner = Planner(
        args.tables,
        args.data_root,
        args.work_root,
        args.cfg_options,
        args.teacher_cache,
    )
    args.work_root = planner.roots['work_dirs']
    check_folders(args)
    runs = [run for row in table.rows for run in planner.runs(row, seeds)]
    with_teachers = runs_in_order(runs)
    state, conflicts = states(with_teachers)
    if conflicts and not (args.retrain or args.print_only):
        raise SystemExit('\n'.join(conflicts))
    todo = left_to_do(runs, state)
    if args.dry_run:
        print_plan(todo, state, args, print_line)
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
                print_line(f'{run.name}: moved to {move_aside(run)}')
        outcomes = set(train_all(todo, launcher, print_line).values())
        if 'interrupted' in outcomes:
            code = INTERRUPTED_EXIT_CODE
        elif outcomes != {'done'}:
            code = 1
    for conflict in states(with_teachers)[1]:
        print_line(f'Not in the table: {conflict}')
    rows = measured_rows(table, planner, seeds)
    print_line(text_table(table, rows))
    if args.out:
        write_text(args.out, markdown_table(table, rows))
    if args.json:
        write_text(args.json, json_table(table.title, rows))
    return code


def main() -> None:
    """Parses the command line."""
    # No log messages of models and configs that are only inspected.
    logging.disable(logging.INFO)
    warnings.filterwarnings('ignore', message='pkg_resources is deprecated')
    # The table keeps its width; a narrow terminal must not cut off figures.
    console = Console(highlight=False, soft_wrap=True, width=240)
    sys.exit(reproduce(parse_args(), console.print))


if __name__ == '__main__':
    main()
