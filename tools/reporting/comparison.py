"""Compares a student before and after distillation, clip by clip."""

import math
import statistics
from typing import List, NamedTuple, Sequence, Tuple

import numpy as np


class ClassResult(NamedTuple):
    """Accuracy on the clips of one class, in percent.

    Attributes:
        label (int): The class.
        name (str): Its name.
        clips (int): Number of clips.
        before (list[float]): Accuracy per run of the student alone.
        after (list[float]): Accuracy per run of the distilled student.
    """

    label: int
    name: str
    clips: int
    before: List[float]
    after: List[float]

    @property
    def gain(self) -> float:
        """Points by which the mean changes; nan if one is missing."""
        if not self.before or not self.after:
            return math.nan
        return statistics.fmean(self.after) - statistics.fmean(self.before)


class Changed(NamedTuple):
    """A clip that more, or fewer, runs recognise after distillation.

    Attributes:
        index (int): Its place in the list.
        before (int): Runs of the student alone that recognise it.
        after (int): Runs of the distilled student that do.
        change (float): Difference of the shares of runs, -1 to 1.
    """

    index: int
    before: int
    after: int
    change: float


def per_class(
    labels: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    classes: Sequence[str],
) -> List[ClassResult]:
    """Computes the accuracy on the clips of each class.

    Args:
        labels (np.ndarray): (n,)
        before (np.ndarray): (S, n), whether a run of the student alone
            recognises a clip; S may be 0.
        after (np.ndarray): The same of the distilled student.
        classes (Sequence[str]): Names of the classes.

    Returns:
        list[ClassResult]: Classes that have a clip, in order.
    """
    results = []
    for label in np.unique(labels):
        own = labels == label
        accuracies = [
            [100 * float(run[own].mean()) for run in runs]
            for runs in (before, after)
        ]
        results.append(
            ClassResult(
                int(label), classes[label], int(own.sum()), *accuracies
            )
        )
    return results


def confusion(
    labels: np.ndarray, predicted: np.ndarray, num_classes: int
) -> np.ndarray:
    """Counts the answers for the clips of each class.

    Args:
        labels (np.ndarray): (n,)
        predicted (np.ndarray): (S, n), one row per run.
        num_classes (int): C.

    Returns:
        np.ndarray: (C, C), row: the class, column: the answer; all runs.
    """
    counts = np.zeros((num_classes, num_classes), int)
    for run in predicted:
        np.add.at(counts, (labels, run), 1)
    return counts


def changed_clips(
    before: np.ndarray, after: np.ndarray
) -> Tuple[List[Changed], List[Changed]]:
    """Finds the clips that distillation fixed and those that it broke.

    Args:
        before (np.ndarray): (S, n), whether a run of the student alone
            recognises a clip.
        after (np.ndarray): (S', n)

    Returns:
        tuple[list[Changed], list[Changed]]: Fixed and broken clips, those
            that change in most runs first.
    """
    change = after.mean(0) - before.mean(0)
    clips = [
        Changed(i, int(before[:, i].sum()), int(after[:, i].sum()), value)
        for i, value in enumerate(change.tolist())
    ]
    return (
        sorted((c for c in clips if c.change > 0), key=lambda c: -c.change),
        sorted((c for c in clips if c.change < 0), key=lambda c: c.change),
    )


def spread_over_classes(
    clips: Sequence[Changed], labels: np.ndarray, number: int
) -> List[Changed]:
    """Chooses clips so that every class comes once before any comes twice.

    Args:
        clips (Sequence[Changed]): In order of importance.
        labels (np.ndarray): (n,)
        number (int): How many.
    """
    seen: dict = {}
    ranked = []
    for position, clip in enumerate(clips):
        label = int(labels[clip.index])
        seen[label] = seen.get(label, 0) + 1
        ranked.append((seen[label], position, clip))
    return [clip for _, _, clip in sorted(ranked)[:number]]


def exact_sign_test(fixed: int, broken: int) -> float:
    """Returns the two-sided p-value of McNemar's exact test.

    Args:
        fixed (int): Clips that only the distilled student recognises.
        broken (int): Clips that only the student alone recognises.

    Returns:
        float: Probability of a difference at least as large if each of
            these clips were as likely to change in either direction.
    """
    n, k = fixed + broken, min(fixed, broken)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    return min(1.0, 2 * tail)


def mean_difference(
    before: Sequence[float], after: Sequence[float]
) -> Tuple[float, float]:
    """Returns the difference of two means and its standard error (Welch).

    The error is nan unless both have two values at least.
    """
    difference = statistics.fmean(after) - statistics.fmean(before)
    if min(len(before), len(after)) < 2:
        return difference, math.nan
    parts = (statistics.variance(v) / len(v) for v in (before, after))
    return difference, math.sqrt(sum(parts))


def verdict(before: np.ndarray, after: np.ndarray) -> List[str]:
    """Says in sentences what distillation changed, good or bad.

    Args:
        before (np.ndarray): (S, n), whether a run of the student alone
            recognises a clip.
        after (np.ndarray): (S', n), the same of the distilled student.
    """
    accuracies = [[100 * float(r.mean()) for r in x] for x in (before, after)]
    alone, distilled = map(statistics.fmean, accuracies)
    difference, error = mean_difference(*accuracies)
    clips = before.shape[1]
    if abs(difference) < 0.005:
        change = 'no difference'
    else:
        more = 'more' if difference > 0 else 'less'
        change = f'{abs(difference):.1f} points {more} with distillation'
    mean = ''
    if max(len(before), len(after)) > 1:
        mean = (
            f', on average of {len(before)} trainings alone and '
            f'{len(after)} with distillation'
        )
    sentences = [
        f'On {clips} clips the student alone recognises {alone:.1f} % and '
        f'the distilled student {distilled:.1f} %{mean}: {change}.'
    ]
    if len(before) == len(after) == 1:
        fixed = int((after[0] & ~before[0]).sum())
        broken = int((before[0] & ~after[0]).sum())
        sentences.append(
            f'Distillation fixed {fixed} clips and broke {broken}.'
        )
        if fixed != broken:
            p = exact_sign_test(fixed, broken)
            sentences.append(
                'If these clips were as likely to change in either '
                'direction, a difference of this size would come up with '
                f"probability {p:.2g} (McNemar's exact test)."
            )
        sentences.append(
            'Each student was trained once. Another seed gives other '
            'figures: train several to see how much.'
        )
    elif not math.isnan(error):
        sentences.append(
            f'The difference of the means is {difference:+.1f} points with '
            f'a standard error of {error:.1f}.'
        )
    return sentences
