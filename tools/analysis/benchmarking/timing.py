"""Runs variants in turn, and compares their times round by round."""

import time
from statistics import median
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Union

import torch

Facts = Dict[str, Union[bool, float, str]]


class Row(NamedTuple):
    """Time of one variant divided by the time of others.

    Attributes:
        group (str): Group of measurements.
        name (str): The variant.
        reference (str): Divisor of the ratio; terms of a sum are joined by
            ``+``.
        ratio (float): Median over rounds.
        low (float): Smallest ratio of all rounds.
        high (float): Largest ratio of all rounds.
        cpu_ratio (float, optional): Median ratio of this process's CPU time,
            which other processes affect little.
        seconds (float, optional): Median time of the variant.
        spread (float, optional): Its interquartile range, in seconds.
        facts (dict): Further findings. A target is not met if one of them is
            False.
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
    """Times variants that each run once per round.

    Ratios are computed within a round, so changes in the machine's speed
    cancel.

    Args:
        variants (dict[str, callable]): Each is called once before the first
            round, without measuring.
        rounds (int): Measured calls of each.

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
        """Compares a variant with the sum of some others."""
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


def now() -> float:
    """Returns seconds, after everything launched on a GPU has ended."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def paired_ratios(
    seconds: Dict[str, List[float]], name: str, references: tuple
) -> List[float]:
    """Divides a variant's time by the sum of others, for each round."""
    sums = [sum(turn) for turn in zip(*(seconds[r] for r in references))]
    return [mine / other for mine, other in zip(seconds[name], sums)]


def interquartile_range(values: List[float]) -> float:
    """Returns the distance between the medians of both halves."""
    values = sorted(values)
    half = (len(values) + 1) // 2
    return median(values[-half:]) - median(values[:half])
