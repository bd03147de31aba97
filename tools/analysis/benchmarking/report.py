"""Targets and tables of the measurements."""

import argparse
import os.path as osp
from typing import List, NamedTuple, Optional

import torch

from .timing import Facts, Row

INFINITE = float('inf')


class Target(NamedTuple):
    """Limits of a ratio.

    Attributes:
        title (str): Title in the report.
        name (str): Name of the row.
        reference (str): Reference of the row.
        low (float): Smallest ratio that meets the target.
        high (float): Largest ratio that meets the target.
    """

    title: str
    name: str
    reference: str
    low: float
    high: float


TARGETS = (
    Target(
        'R1 cached step',
        'cached step, stock layout',
        'student step, stock layout',
        0,
        1.03,
    ),
    Target(
        'R1 cached step, channels-last student',
        'cached step, channels-last',
        'student step, channels-last',
        0,
        1.03,
    ),
    Target(
        'R2 live step vs. student and teachers',
        'live step, stock layout',
        'student step, stock layout + teachers',
        0,
        1.03,
    ),
    Target(
        'R2 the same, channels-last student',
        'live step, channels-last',
        'student step, channels-last + teachers',
        0,
        1.03,
    ),
    Target(
        'R3 teachers with exact speedups',
        'teachers',
        'teachers, stock',
        0,
        0.80,
    ),
    Target(
        'R4 live step vs. an MMRazor-style one',
        'live step, stock layout',
        'MMRazor-style step',
        0,
        0.80,
    ),
    Target(
        'R5 stock live step vs. the cached one',
        'live step with stock teachers, stock layout',
        'cached step, stock layout',
        2.5,
        INFINITE,
    ),
    Target(
        'R6 channels-last student',
        'student step, channels-last',
        'student step, stock layout',
        0,
        0.65,
    ),
    Target(
        'R7 exported student',
        "the distiller's student",
        'stock model with the export',
        0.98,
        1.02,
    ),
    Target(
        'R8 bytes kept for backward',
        'bytes kept for backward, cached step',
        'student step',
        0,
        1.02,
    ),
    Target(
        'R9 writing the cache',
        'writing a batch to the cache',
        'loading a batch + teachers',
        0,
        1.05,
    ),
)


class Judgement(NamedTuple):
    """A target, and whether it was met."""

    title: str
    wanted: str
    measured: float
    met: bool


def judge(rows: List[Row]) -> List[Judgement]:
    """Judges the targets that were measured."""
    found = []
    for target in TARGETS:
        for row in rows:
            if (row.name, row.reference) == (target.name, target.reference):
                within = target.low <= row.ratio <= target.high
                holds = all(f is not False for f in row.facts.values())
                found.append(
                    Judgement(
                        target.title,
                        wanted_text(target),
                        row.ratio,
                        within and holds,
                    )
                )
    return found


def wanted_text(target: Target) -> str:
    """Returns the limits of a target in words."""
    if target.high == INFINITE:
        return f'>= {target.low:.2f}'
    if target.low == 0:
        return f'<= {target.high:.2f}'
    return f'{target.low:.2f} to {target.high:.2f}'


def setting_of(args: argparse.Namespace) -> dict:
    """Returns the setting in which the numbers were measured."""
    return dict(
        config=osp.basename(args.config),
        batch=args.batch,
        student_view=args.student_view,
        teacher_view=args.teacher_view,
        device=torch.cuda.get_device_name()
        if args.device.startswith('cuda')
        else 'CPU',
        threads=torch.get_num_threads(),
        rounds=args.rounds,
        torch=torch.__version__,
    )


def as_json(rows: List[Row], setting: dict) -> dict:
    """Returns everything that was measured, for a program."""
    return dict(
        setting=setting,
        targets=[j._asdict() for j in judge(rows)],
        rows=[r._asdict() for r in rows],
    )


def as_markdown(rows: List[Row], setting: dict) -> str:
    """Returns the targets, then everything that was measured."""
    lines = [
        ', '.join(f'{name} {value}' for name, value in setting.items()),
        '',
        '| target | wanted | measured | met |',
        '|---|---|---|---|',
    ]
    for judgement in judge(rows):
        met = 'yes' if judgement.met else 'no'
        lines.append(
            f'| {judgement.title} | {judgement.wanted} '
            f'| {judgement.measured:.3f} | {met} |'
        )
    lines += [
        '',
        '| measured | compared with | ratio | range | CPU time | seconds '
        '| found |',
        '|---|---|---|---|---|---|---|',
    ]
    for row in rows:
        seconds = ''
        if row.seconds is not None:
            seconds = f'{row.seconds:.4g} ± {row.spread:.2g}'
        lines.append(
            f'| {row.name} | {row.reference} | {row.ratio:.3f} '
            f'| {row.low:.3f} to {row.high:.3f} | {number(row.cpu_ratio)} '
            f'| {seconds} | {facts_text(row.facts)} |'
        )
    return '\n'.join(lines) + '\n'


def number(value: Optional[float]) -> str:
    """Formats a number with three decimals; None is empty."""
    return '' if value is None else f'{value:.3f}'


def facts_text(facts: Facts) -> str:
    """Formats facts, such as ``keys identical: True``."""
    return '; '.join(
        f'{name}: {short(value) if isinstance(value, float) else value}'
        for name, value in facts.items()
    )


def short(value: float) -> str:
    """Formats a number with three digits or all those before the point."""
    return f'{value:.0f}' if abs(value) >= 1000 else f'{value:.3g}'
