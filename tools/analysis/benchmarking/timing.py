"""Variants that are run in turn, and what one takes of another's time."""

import time
from statistics import median
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Union

from dtkd_mmaction.engine.fast_student_hook import now

Facts = Dict[str, Union[bool, float, str]]


class Row(NamedTuple):
    """What one variant takes, as a part of what others take.

    Attributes:
        group (str): Which measurement.
        name (str): What was measured.
        reference (str): Beside what; a sum has its terms joined by ``+``.
        ratio (float): Median over rounds.
        low (float): Smallest of all rounds.
        high (float): Largest.
        cpu_ratio (float, optional): Median ratio of this process's CPU time,
            to which other processes add little.
        seconds (float, optional): Median time of the variant.
        spread (float, optional): Its interquartile range, in seconds.
        facts (dict): What else was found. A target is not met where one of
            them is False.
    """

    group: str
    name: str
    reference: str
    ratio: float
    low: float
    high: float
    cpu_ratio: Optional[float] = None
    seconds: Optional[float] = None
    spread: Optional[float] = None
    facts: Facts = {}


class Times:
    """Times of variants, each run once a round.

    Ratios are taken within a round, so that the machine's drift cancels.

    Args:
        variants (dict[str, callable]): Each is called once more, first.
        rounds (int): Calls of each that count.

    Attributes:
        seconds (dict[str, list[float]]): Wall time by variant and round.
        cpu_seconds (dict[str, list[float]]): CPU time of this process.
    """

    def __init__(
        self, variants: Dict[str, Callable[[], Any]], rounds: int
    ) -> None:
        self.seconds: Dict[str, List[float]] = {n: [] for n in variants}
        self.cpu_seconds: Dict[str, List[float]] = {n: [] for n in variants}
        for turn in range(rounds + 1):
            for name, variant in variants.items():
                begun, cpu_begun = now(), time.process_time()
                variant()
                if turn:
                    self.seconds[name].append(now() - begun)
                    self.cpu_seconds[name].append(
                        time.process_time() - cpu_begun
                    )

    def row(
        self, group: str, name: str, *references: str, **facts: Any
    ) -> Row:
        """A variant beside the sum of some others, round by round."""
        ratios = paired_ratios(self.seconds, name, references)
        cpu_ratios = paired_ratios(self.cpu_seconds, name, references)
        seconds = self.seconds[name]
        return Row(
            group,
            name,
            ' + '.join(references),
            median(ratios),
            min(ratios),
            max(ratios),
            median(cpu_ratios),
            median(seconds),
            interquartile_range(seconds),
            facts,
        )


def paired_ratios(
    seconds: Dict[str, List[float]], name: str, references: tuple
) -> List[float]:
    """A variant's time over the sum of others', a number a round."""
    sums = [sum(turn) for turn in zip(*(seconds[r] for r in references))]
    return [mine / other for mine, other in zip(seconds[name], sums)]


def interquartile_range(values: List[float]) -> float:
    """Between the medians of the lower and of the upper half."""
    values = sorted(values)
    half = (len(values) + 1) // 2
    return median(values[-half:]) - median(values[:half])
