"""The demo's picture: clips with both predictions, and curves."""

from typing import List, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from dtkd_mmaction.files import save_figure

from .predictions import STUDENTS, Predictions
from .summary import SeedResult
from .trainings import RUNS

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

SHOWN_FRAMES = (0, 2, 5, 7)
# Colours that are distinct for all types of colour vision (Okabe and Ito).
COLOURS = dict(
    vit_teacher='#0072B2',
    cnn_teacher='#56B4E9',
    student_alone='#D55E00',
    dtkd='#009E73',
)
RIGHT, WRONG = '#009E73', '#D55E00'


def choose_clips(predictions: Predictions, per_class: int) -> List[int]:
    """Chooses the clips to show, class by class.

    Args:
        predictions (Predictions): Both students' predictions.
        per_class (int): Number of clips per class.

    Returns:
        list[int]: The first clips of each class on which the students
            disagree, whichever is right. If there are too few, the first other
            ones.
    """
    answers = [predictions.scores[run].argmax(1) for run in STUDENTS]
    differ = answers[0] != answers[1]
    chosen = []
    for label in np.unique(predictions.labels):
        own = np.flatnonzero(predictions.labels == label)
        # False sorts before True, and the sort is stable.
        order = own[np.argsort(~differ[own], kind='stable')]
        chosen += order[:per_class].tolist()
    return chosen


def draw_picture(
    results: List[SeedResult],
    classes: Sequence[str],
    path: str,
    per_class: int = 2,
) -> None:
    """Draws clips of the first seed on the left and the curves on the right.

    Args:
        results (list[SeedResult]): One per seed.
        classes (Sequence[str]): Names of the classes.
        path (str): The file to write.
        per_class (int): Clips per class. Defaults to 2.
    """
    first = results[0]
    figure = plt.figure(figsize=(15, 9.5), layout='constrained')
    left, right = figure.subfigures(1, 2, width_ratios=(1.55, 1))
    left.suptitle(
        'Validation clips with the predictions of both students\n'
        'The first clips of each class on which they disagree',
        fontsize=11,
    )
    axes = left.subplots(len(classes), per_class, squeeze=False)
    chosen = choose_clips(first.predictions, per_class)
    for position, index in enumerate(chosen):
        _draw_clip(axes.flat[position], first.predictions, index, classes)
    for axis in axes.flat[len(chosen) :]:
        axis.axis('off')
    several = len(results) > 1
    panels = right.subplots(3 if several else 2, 1)
    _draw_curves(panels[0], first)
    _draw_classes(panels[1], first, classes)
    if several:
        _draw_seeds(panels[2], results)
    save_figure(figure, path, dpi=110)
    plt.close(figure)


def _draw_clip(
    axis: Axes, predictions: Predictions, index: int, classes: Sequence[str]
) -> None:
    """Draws four frames of a clip in a row, and the predictions below."""
    clip = predictions.clips[index][0].permute(1, 2, 3, 0).numpy()
    gap = np.full((clip.shape[1], 1, 3), 255, np.uint8)
    strip = [part for i in SHOWN_FRAMES for part in (clip[i], gap)][:-1]
    axis.imshow(np.concatenate(strip, 1), interpolation='nearest')
    axis.set_xticks([])
    axis.set_yticks([])
    label = int(predictions.labels[index])
    axis.set_title(classes[label], fontsize=9, fontweight='bold', pad=2)
    for run, prefix, place, side in (
        ('student_alone', 'alone', 0.0, 'left'),
        ('dtkd', 'DT-KD', 1.0, 'right'),
    ):
        scores = predictions.scores[run][index]
        answer = int(scores.argmax())
        right = answer == label
        axis.text(
            place,
            -0.05,
            f'{prefix}: {classes[answer]} {100 * scores[answer]:.0f} % '
            + ('✓' if right else '✗'),
            transform=axis.transAxes,
            ha=side,
            va='top',
            fontsize=8,
            color=RIGHT if right else WRONG,
        )


def _draw_curves(axis: Axes, result: SeedResult) -> None:
    """Draws validation accuracy against the share of the training."""
    for run, name in RUNS.items():
        measured = result.runs[run]
        axis.plot(
            [100 * epoch / measured.epochs[-1] for epoch in measured.epochs],
            [100 * x for x in measured.top1],
            marker='o',
            markersize=3,
            color=COLOURS[run],
            label=f'{name}: {result.top1(run):.1f} %',
        )
    axis.set(
        title=f'Validation accuracy (seed {result.seed})',
        xlabel='% of the training',
        ylabel='top-1 %',
        ylim=(0, 102),
    )
    axis.legend(fontsize=8, loc='lower right')
    axis.grid(alpha=0.3)


def _draw_classes(
    axis: Axes, result: SeedResult, classes: Sequence[str]
) -> None:
    """Draws both students' accuracy per class."""
    rows = np.arange(len(classes))
    alone, distilled = (
        100 * np.array(result.predictions.accuracy_per_class(run))
        for run in STUDENTS
    )
    axis.hlines(rows, alone, distilled, color='0.7', lw=2, zorder=1)
    for run, values in zip(STUDENTS, (alone, distilled)):
        axis.scatter(
            values, rows, color=COLOURS[run], label=RUNS[run], zorder=2
        )
    axis.set_yticks(rows, classes)
    axis.invert_yaxis()
    axis.set(
        title=f'Accuracy per class (seed {result.seed})',
        xlabel='top-1 %',
        xlim=(-2, 102),
    )
    axis.legend(fontsize=8, loc='lower left')
    axis.grid(alpha=0.3, axis='x')


def _draw_seeds(axis: Axes, results: List[SeedResult]) -> None:
    """Draws the last accuracy of all four models for every seed."""
    places = np.arange(len(results))
    for run, name in RUNS.items():
        axis.plot(
            places,
            [result.top1(run) for result in results],
            'o',
            color=COLOURS[run],
            label=name,
        )
    axis.vlines(
        places,
        [result.top1('student_alone') for result in results],
        [result.top1('dtkd') for result in results],
        color='0.7',
        zorder=0,
    )
    axis.set_xticks(places, [str(result.seed) for result in results])
    axis.set(title='All seeds', xlabel='seed', ylabel='top-1 %')
    axis.grid(alpha=0.3, axis='y')
