"""Time and logits of teachers with each of their options."""

from functools import partial
from typing import Dict, Iterator, List, Tuple

from torch import Tensor

from dtkd_mmaction.teachers.frozen_teacher import FrozenTeacher
from dtkd_mmaction.teachers.speedups import SPEEDUPS

from .timing import Row, Times
from .workbench import Workbench

# Rounds of variants that are slow on a CPU.
SLOW_ROUNDS = 1


def exact_variants(
    bench: Workbench, key: str
) -> Iterator[Tuple[str, FrozenTeacher]]:
    """Yields a stock teacher, one with each speedup, and one with all."""
    yield 'stock', bench.teacher(key, speedups=False)
    for name, rewrite in SPEEDUPS.items():
        teacher = bench.teacher(key, speedups=False)
        if rewrite(teacher.recognizer, teacher._sample_outputs):
            teacher.train(False)  # also the modules that were put in
            yield name, teacher
    teacher = bench.teacher(key)
    teacher.apply_speedups()
    yield 'all speedups', teacher


def other_variants(
    bench: Workbench, key: str
) -> Iterator[Tuple[str, FrozenTeacher]]:
    """Yields teachers with options that change outputs or start slowly."""
    yield 'stock', bench.teacher(key, speedups=False)
    options: Dict[str, dict] = dict(bf16=dict(precision='bf16'))
    if bench.device.type == 'cuda':
        options['fp16'] = dict(precision='fp16')
    if bench.args.compile:
        options['compiled'] = dict(compile=True)
    for name, spec in options.items():
        teacher = bench.teacher(key, **spec)
        teacher.apply_speedups()
        yield f'all speedups, {name}', teacher


def compare(
    bench: Workbench,
    group: str,
    key: str,
    variants: Iterator[Tuple[str, FrozenTeacher]],
    rounds: int,
) -> List[Row]:
    """Compares variants with the first one, in time and in logits."""
    clips = bench.clips_of_a_batch()
    logits: Dict[str, Tensor] = {}

    def run(name: str, teacher: FrozenTeacher) -> None:
        logits[name] = teacher(clips).logits

    calls = {
        f'{key}: {option}': partial(run, f'{key}: {option}', teacher)
        for option, teacher in variants
    }
    times = Times(calls, rounds)
    stock, *others = calls
    rows = []
    for name in others:
        difference = (logits[name] - logits[stock]).abs().max()
        facts = {
            'logit difference / std': float(difference / logits[stock].std())
        }
        rows.append(times.row(group, name, stock, **facts))
    return rows


def measure_teachers(bench: Workbench) -> List[Row]:
    """Measures each speedup of both teachers, all of them, low precision."""
    rounds = bench.args.rounds
    slow = rounds if bench.device.type == 'cuda' else SLOW_ROUNDS
    rows = []
    for key in ('vit_teacher', 'cnn_teacher'):
        exact, other = exact_variants(bench, key), other_variants(bench, key)
        rows += compare(bench, 'teachers', key, exact, rounds)
        rows += compare(bench, 'teachers', key, other, slow)
    return rows
