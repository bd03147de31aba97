"""Turns the records of runs into a table with the paper's figures."""

import json
import math
import os.path as osp
import statistics
from typing import Iterable, List, Sequence

from rich import box
from rich.table import Table as RichTable

from .plan import WORK, Planner, Table
from .records import ConflictError, State, read_result, state_of

NOTHING = '-'


def mean_and_deviation(values: List[float], digits: int = 2) -> str:
    """Returns the mean and, for several values, the standard deviation."""
    if not values:
        return NOTHING
    text = f'{statistics.fmean(values):.{digits}f}'
    if len(values) > 1:
        text += f' ± {statistics.stdev(values):.{digits}f}'
    return text


def vs_paper(values: List[float], paper: float) -> List[str]:
    """Returns the paper's figure and the difference of the mean."""
    if math.isnan(paper):
        return [NOTHING, NOTHING]
    if not values:
        return [f'{paper:.2f}', NOTHING]
    return [f'{paper:.2f}', f'{statistics.fmean(values) - paper:+.2f}']


def vs_reference(values: List[float], reference: List[float]) -> str:
    """Returns the difference of the means and its standard error (Welch)."""
    if values is reference or len(values) < 2 or len(reference) < 2:
        return NOTHING
    difference = statistics.fmean(values) - statistics.fmean(reference)
    error = math.sqrt(
        sum(statistics.variance(v) / len(v) for v in (values, reference))
    )
    return f'{difference:+.2f} ± {error:.2f}'


def measured_rows(
    table: Table, planner: Planner, seeds: Sequence[int]
) -> List[dict]:
    """Returns the rows of a table with all finished runs.

    Args:
        table (Table): Table with the requested rows.
        planner (Planner): Planner of the runs.
        seeds (Sequence[int]): Seeds of every row.

    Returns:
        list[dict]: One dict per row: ``name``, ``config``, ``paper`` (column
            -> percent) and ``runs``, the records of the finished runs.

    Raises:
        ValueError: If a record lacks a metric of the table.
    """
    rows = []
    for row in table.rows:
        finished = []
        for run in planner.runs(row, seeds):
            result = read_result(run) if is_done(run) else None
            if result is None:
                continue
            lacking = set(table.metrics.values()) - set(result['metrics'])
            if lacking:
                raise ValueError(
                    f'{run.work_dir}: its validation has no '
                    f'{sorted(lacking)}, only {sorted(result["metrics"])}.'
                )
            # Published records contain no folders of this machine.
            for launch in result['launches']:
                launch.pop('command', None)
            folder = osp.relpath(run.work_dir, planner.roots[WORK])
            finished.append(dict(result, folder=folder))
        # With options or a method, it is not a config of the paper.
        is_other = row.options or row.method
        paper = {} if is_other else table.paper.get(row.config, {})
        rows.append(
            dict(name=row.name, config=row.source, paper=paper, runs=finished)
        )
    return rows


def is_done(run) -> bool:
    """Returns whether a record belongs to this run."""
    try:
        return state_of(run) is State.DONE
    except ConflictError:
        return False


def lines(table: Table, rows: Iterable[dict]) -> List[List[str]]:
    """Returns the header and the cells of all rows; metrics in percent."""
    rows = list(rows)
    result = [
        ['row', 'runs'],
        *([r['name'], str(len(r['runs']))] for r in rows),
    ]
    for column, metric in table.metrics.items():
        values = {
            row['name']: [100 * run['metrics'][metric] for run in row['runs']]
            for row in rows
        }
        reference = values.get(table.reference, [])
        has_paper = any(column in row['paper'] for row in rows)
        result[0].append(column)
        if has_paper:
            result[0] += ['paper', 'difference']
        if table.reference:
            result[0].append(f'vs. {table.reference}')
        for row, cells in zip(rows, result[1:]):
            own = values[row['name']]
            cells.append(mean_and_deviation(own))
            if has_paper:
                paper = row['paper'].get(column, math.nan)
                cells += vs_paper(own, paper)
            if table.reference:
                cells.append(vs_reference(own, reference))
    for column, name in table.monitors.items():
        result[0].append(column)
        for row, cells in zip(rows, result[1:]):
            trained = [run['training'] for run in row['runs']]
            values = [scalars[name] for scalars in trained if name in scalars]
            cells.append(
                f'{statistics.fmean(values):.3f}' if values else NOTHING
            )
    return result


def markdown_table(table: Table, rows: Iterable[dict]) -> str:
    """Returns the table as Markdown, with its title."""
    names, *body = lines(table, rows)
    rule = ['---', *['---:'] * (len(names) - 1)]
    text = '\n'.join(
        f'| {" | ".join(line)} |' for line in (names, rule, *body)
    )
    return f'## {table.title}\n\n{text}\n'


def json_table(title: str, rows: Iterable[dict]) -> str:
    """Returns the records of a table as JSON, one run per line.

    Args:
        title (str): Title of the table.
        rows (iterable[dict]): Rows of :func:`measured_rows`.
    """
    blocks = []
    for row in rows:
        head = {key: value for key, value in row.items() if key != 'runs'}
        runs = ',\n'.join(json.dumps(run) for run in row['runs'])
        blocks.append(f'{json.dumps(head)[:-1]}, "runs": [\n{runs}\n]}}')
    body = ',\n'.join(blocks)
    return f'{{"title": {json.dumps(title)}, "rows": [\n{body}\n]}}\n'


def text_table(table: Table, rows: Iterable[dict]) -> RichTable:
    """Returns the table for a terminal."""
    names, *body = lines(table, rows)
    drawn = RichTable(title=table.title, box=box.SIMPLE)
    for i, name in enumerate(names):
        drawn.add_column(name, justify='right' if i else 'left', no_wrap=True)
    for line in body:
        drawn.add_row(*line)
    return drawn
