"""What each option of a teacher does to its time and to its logits."""

from functools import partial
from typing import Dict, Iterator, List, Tuple

from torch import Tensor

from dtkd_mmaction.teachers.frozen_teacher import FrozenTeacher
from dtkd_mmaction.teachers.speedups import REWRITES

from .timing import Row, Times
from .workbench import Workbench

# A round of what is slow on a CPU, and of what it is compared with.
SLOW_ROUNDS = 1


def exact_variants(
    bench: Workbench, key: str
) -> Iterator[Tuple[str, FrozenTeacher]]:
    """A teacher as it is, with one rewrite after the other, with all."""
    yield 'stock', bench.teacher(key, optimise=False)
    for name, rewrite in REWRITES.items():
        teacher = bench.teacher(key, optimise=False)
        if rewrite(teacher.recognizer):  # else there is nothing to rewrite
            teacher.train(False)  # what was put in, too
            yield name, teacher
    teacher = bench.teacher(key)
    teacher.optimise()
    yield 'all rewrites', teacher


def other_variants(
    bench: Workbench, key: str
) -> Iterator[Tuple[str, FrozenTeacher]]:
    """What changes the answers, or takes long to prepare."""
    yield 'stock', bench.teacher(key, optimise=False)
    options: Dict[str, dict] = dict(bf16=dict(precision='bf16'))
    if bench.device.type == 'cuda':
        options['fp16'] = dict(precision='fp16')
    if bench.args.compile:
        options['compiled'] = dict(compile=True)
    for name, spec in options.items():
        teacher = bench.teacher(key, **spec)
        teacher.optimise()
        yield f'all rewrites, {name}', teacher


def compare(
    bench: Workbench,
    key: str,
    variants: Iterator[Tuple[str, FrozenTeacher]],
    rounds: int,
) -> List[Row]:
    """Variants beside the first one, in time and in logits."""
    clips = bench.batch(bench.live)['inputs']
    logits: Dict[str, Tensor] = {}

    def ask(name: str, teacher: FrozenTeacher) -> None:
        logits[name] = teacher(clips).logits

    asked = {
        f'{key}: {option}': partial(ask, f'{key}: {option}', teacher)
        for option, teacher in variants
    }
    times = Times(asked, rounds)
    stock, *others = asked
    rows = []
    for name in others:
        difference = (logits[name] - logits[stock]).abs().max()
        facts = {
            'logit difference / std': float(difference / logits[stock].std())
        }
        rows.append(times.row('teachers', name, stock, **facts))
    return rows


def measure_teachers(bench: Workbench) -> List[Row]:
    """Each rewrite of each teacher alone, all of them, low precision."""
    rounds = bench.args.rounds
    slow = rounds if bench.device.type == 'cuda' else SLOW_ROUNDS
    rows = []
    for key in ('vit_teacher', 'cnn_teacher'):
        rows += compare(bench, key, exact_variants(bench, key), rounds)
        rows += compare(bench, key, other_variants(bench, key), slow)
    return rows
