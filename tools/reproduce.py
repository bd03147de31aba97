"""One command a table of the paper: trains what is missing, prints it.

    python tools/reproduce.py table1 --data-root data --seeds 3 --dry-run
    python tools/reproduce.py table1 --data-root data --seeds 3 --gpus 8

Teachers come first, once. What is done is skipped; after a kill the same
command goes on (docs/reproduce.md).
"""

import argparse
import os.path as osp
import sys
from typing import Any, Callable, Dict, List

from mmengine.config import DictAction
from rich.console import Console

TOOLS = osp.dirname(osp.abspath(__file__))
sys.path.insert(0, osp.dirname(TOOLS))

from dtkd_mmaction.engine.resumable_train_loop import (  # noqa: E402
    INTERRUPTED_EXIT_CODE,
)
from dtkd_mmaction.reproduction import (  # noqa: E402
    ConflictError,
    Counter,
    Launcher,
    Planner,
    Run,
    State,
    Table,
    gpu_hours,
    markdown_table,
    measured_rows,
    read_tables,
    runs_in_order,
    state_of,
    text_table,
    train_all,
)
from dtkd_mmaction.reproduction.records import (  # noqa: E402
    move_aside,
    write_json,
)

TABLES = osp.join(osp.dirname(TOOLS), 'configs', 'tables.yml')


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('table', help='table1 to table8, ucf6 or choices')
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
        '--seeds', type=int, default=3, help='so many, from 0; default 3'
    )
    seeds.add_argument('--seed-list', type=int, nargs='+', metavar='SEED')
    where = parser.add_argument_group('how to train')
    where.add_argument(
        '--gpus', type=int, default=1, help='processes of one run; default 1'
    )
    where.add_argument('--slurm', metavar='PARTITION')
    where.add_argument(
        '--jobs', type=int, default=1, help='runs at the same time; default 1'
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
        type=float,
        default=10,
        help='effective 10^12 operations a second of one GPU, for the plan',
    )
    parser.add_argument('--out', metavar='FILE.md', help='the table')
    parser.add_argument('--json', metavar='FILE', help='records of all runs')
    return parser.parse_args()


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
    if args.students:
        prefixes = tuple(args.students)
        rows = [
            row
            for row in rows
            if osp.basename(row.config).startswith(prefixes)
        ]
    if not rows:
        raise SystemExit(f'--students {args.students}: no row is left.')
    return table._replace(rows=rows)


def states(runs: List[Run], retrain: bool) -> Dict[str, State]:
    """How far each run is.

    Raises:
        SystemExit: If a folder holds another run and ``retrain`` is off.
    """
    found, conflicts = {}, []
    for run in runs:
        try:
            found[run.name] = state_of(run)
        except ConflictError as conflict:
            found[run.name] = State.CONFLICT
            conflicts.append(str(conflict))
    if conflicts and not retrain:
        raise SystemExit('\n'.join(conflicts))
    return found


def left_to_do(runs: List[Run], state: Dict[str, State]) -> List[Run]:
    """Runs that are not done, after those of their teachers."""
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
        say(f'{state[run.name].value:10} {text:>9}  {run.name}')
    say(
        f'{len(runs)} runs, {total:.1f} GPU hours at --gpu-tflops '
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
        if not osp.exists(path)
    ]


def reproduce(args: argparse.Namespace, say: Callable[[Any], None]) -> int:
    """Plan, train, print.

    Returns:
        int: Exit code: 0 if the table is complete, 75 if the runs were
            interrupted, else 1.
    """
    tables = read_tables(args.tables)
    if args.table not in tables:
        raise SystemExit(f'{args.table}: choose one of {list(tables)}.')
    table = chosen(tables[args.table], args)
    seeds = args.seed_list or list(range(args.seeds))
    planner = Planner(
        args.tables,
        args.data_root,
        args.work_root,
        args.cfg_options,
        args.teacher_cache,
    )
    runs = runs_in_order(
        run for row in table.rows for run in planner.runs(row, seeds)
    )
    state = states(runs, args.retrain or args.print_only)
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
    rows = measured_rows(table, planner, seeds)
    say(text_table(table, rows))
    if args.out:
        with open(args.out, 'w') as f:
            f.write(markdown_table(table, rows))
    if args.json:
        write_json(args.json, dict(title=table.title, rows=rows))
    return code


def main() -> None:
    """Command line."""
    # A table in a log file is as wide as it must be.
    width = None if sys.stdout.isatty() else 240
    console = Console(highlight=False, soft_wrap=True, width=width)
    sys.exit(reproduce(parse_args(), console.print))


if __name__ == '__main__':
    main()
