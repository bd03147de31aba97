"""Tests the claim behind DATW: where does distillation help?

    python tools/analysis/teacher_study.py CONFIG STUDENT BASELINE

sorts the validation clips by the confidence of each teacher (Eq. 4) and by its
discrepancy to the student without distillation (Eq. 5). In each bin, it
compares the student trained with CONFIG (checkpoint STUDENT) with the same
student trained alone (checkpoint BASELINE). The paper claims that the gain is
largest where both are high.
"""

import argparse
import math
import os
import os.path as osp
from glob import glob
from typing import Dict, List, NamedTuple, Sequence, Tuple

import matplotlib
import numpy as np
import torch
from inspection import (
    ask_student,
    build_distiller,
    centred_dataset,
    load_exactly,
    student_state,
)
from mmengine.config import Config, DictAction
from mmengine.dataset import pseudo_collate
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader

from dtkd_mmaction.distillers import BaseDistiller
from dtkd_mmaction.losses.datw import (
    DATWLoss,
    student_teacher_discrepancy,
    teacher_confidence,
)
from dtkd_mmaction.recognizers.class_parts import ClassPart
from dtkd_mmaction.recognizers.data_samples import labels_of

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from dtkd_mmaction.files import save_figure, write_json

Z_95 = 1.959964
INTERVAL = (
    '95 % adjusted Wald interval for the difference of two paired '
    'proportions (Bonett and Price 2012): one clip more is added to each '
    'count of clips that changed'
)
# Whether there are several runs alone -> note about the bins.
COMPARED = {
    False: 'One run alone: it sorts the clips and is compared as well. Its '
    'own mistakes lie far from a confident teacher, and training it once '
    'more would mend some of them too, so part of the gain in the last bins '
    'is chance. Several runs as BASELINE take this part out.',
    True: 'Several runs alone: each sorts the clips, and the others are '
    'compared, so that no run is judged by its own mistakes.',
}


class Answers(NamedTuple):
    """Outputs of all models for all clips.

    Attributes:
        labels (Tensor): (n,), or (n, parts) for a head of several parts.
        teachers (dict[str, Tensor]): Name -> logits, (n, N).
        distilled (Tensor): Logits of each distilled student, (S, n, N).
        alone (Tensor): Logits of each student trained alone, (B, n, N).
    """

    labels: Tensor
    teachers: Dict[str, Tensor]
    distilled: Tensor
    alone: Tensor


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('config', help='a distillation config')
    parser.add_argument(
        'student',
        help="checkpoint of a run with CONFIG, or its exported student's; a\n"
        "quoted pattern ('work_dirs/dtkd_seed*/epoch_50.pth') names several\n"
        'seeds, which are averaged',
    )
    parser.add_argument(
        'baseline', help='the same of the student without distillation'
    )
    parser.add_argument('--bins', type=int, default=3, help='default 3')
    parser.add_argument('--out', default='study.png')
    parser.add_argument('--json', help='file for all numbers')
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}
    )
    args = parser.parse_args()
    if args.bins < 1:
        parser.error(f'--bins {args.bins}: a positive number is needed')
    if args.batch_size < 1:
        parser.error(f'--batch-size {args.batch_size}: at least 1 is needed')
    return args


def find_runs(pattern: str, argument: str) -> List[str]:
    """Finds the checkpoints of a pattern, one per seed.

    Raises:
        FileNotFoundError: If there is none.
    """
    paths = sorted(glob(pattern))
    if not paths:
        raise FileNotFoundError(
            f'{argument}={pattern!r}: no file has this name or fits this '
            'pattern.'
        )
    return paths


@torch.no_grad()
def ask_all(
    distiller: BaseDistiller,
    config: Config,
    runs: Sequence[List[str]],
    batch_size: int,
    workers: int,
) -> Answers:
    """Runs teachers and students on the validation clips.

    Every clip is decoded once, as in training but without randomness, and
    every model takes its own view of it.

    Args:
        distiller (BaseDistiller): In eval mode.
        config (Config): Its config.
        runs (Sequence[list[str]]): Checkpoints of the distilled students and
            of those trained alone.
        batch_size (int): Clips per batch.
        workers (int): Processes that decode.

    Returns:
        Answers: On the CPU.
    """
    paths = [path for group in runs for path in group]
    states = [student_state(path) for path in paths]
    for path, state in zip(paths, states):  # before reading clips
        load_exactly(distiller.student, state, path)
    teachers = distiller.teachers
    loader = DataLoader(
        centred_dataset(config, 'val'),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=pseudo_collate,
    )
    labels: List[Tensor] = []
    taught: Dict[str, List[Tensor]] = {name: [] for name in teachers}
    said: List[List[Tensor]] = [[] for _ in paths]
    for batch in track(loader, 'Asking all models', transient=True):
        batch = distiller.data_preprocessor(batch)
        clips = batch['inputs']  # (B, 1, 3, T, H, W)
        labels.append(labels_of(batch['data_samples'], torch.device('cpu')))
        for name, teacher in teachers.items():
            taught[name].append(teacher(clips).logits.cpu())
        for path, state, logits in zip(paths, states, said):
            load_exactly(distiller.student, state, path)
            logits.append(ask_student(distiller, clips).logits.cpu())
    students = torch.stack([torch.cat(logits) for logits in said])
    return Answers(
        torch.cat(labels),
        {name: torch.cat(logits) for name, logits in taught.items()},
        students[: len(runs[0])],
        students[len(runs[0]) :],
    )


def measures(distiller: BaseDistiller) -> Dict[str, object]:
    """Returns the measures of confidence and discrepancy of ``loss_sr``.

    Defaults to those of :class:`DATWLoss`. The printed Eq. 4 is one less than
    its corrected form, which is used here.
    """
    loss = getattr(distiller, 'loss_sr', None) or DATWLoss()
    options = loss.weight_options
    kind = options['confidence']
    return dict(
        confidence=kind if kind != 'paper_literal' else 'one_plus_negentropy',
        discrepancy=options['discrepancy'],
        tau=options['tau'],
        conf_temperature=options['conf_temperature'] or options['tau'],
    )


def paired_gain(fixed: float, broken: float, clips: float) -> dict:
    """Computes the gain of one model over another on the same clips.

    Args:
        fixed (float): Clips that only the first predicts correctly.
        broken (float): Clips that only the second predicts correctly.
        clips (float): All clips.

    Returns:
        dict: ``gain`` (difference of the accuracies), its ``interval``
            (:data:`INTERVAL`) and whether it is ``within_noise`` (the interval
            contains 0). Without clips: None, None and True.
    """
    if not clips:
        return dict(gain=None, interval=None, within_noise=True)
    # Bonett and Price, Adjusted Wald confidence interval for a difference of
    # binomial proportions based on paired data, J. Educ. Behav. Stat. 37,
    # 2012. Its width is never 0, unlike that of a bootstrap of few equal
    # clips.
    won, lost = (fixed + 1) / (clips + 2), (broken + 1) / (clips + 2)
    half = Z_95 * math.sqrt((won + lost - (won - lost) ** 2) / (clips + 2))
    low = max(won - lost - half, -1.0)
    high = min(won - lost + half, 1.0)
    return dict(
        gain=(fixed - broken) / clips,
        interval=[low, high],
        within_noise=low <= 0 <= high,
    )


def compare(
    inside: np.ndarray,
    distilled: np.ndarray,
    alone: np.ndarray,
    teacher: np.ndarray,
) -> dict:
    """Compares distilled students and baselines on some clips.

    Args:
        inside (ndarray): Selected clips, (B, n): every run alone sorts them by
            its own discrepancy.
        distilled (ndarray): Share of distilled students that are right, (n,).
        alone (ndarray): The same for the students trained alone that each of
            the B sortings is compared with, (B, n).
        teacher (ndarray): Whether the teacher is right, (n,).

    Returns:
        dict: Counts and accuracies, means over all pairs of runs, and
            :func:`paired_gain`.
    """
    runs = len(inside)
    clips = float(inside.sum() / runs)

    def count(share: np.ndarray) -> float:
        return float((inside * share).sum() / runs)

    right = dict(alone=alone, distilled=distilled, teacher=teacher)
    fixed = count(distilled * (1 - alone))
    broken = count((1 - distilled) * alone)
    return dict(
        clips=clips,
        **{
            f'accuracy_{who}': count(share) / clips if clips else None
            for who, share in right.items()
        },
        fixed=fixed,
        broken=broken,
        **paired_gain(fixed, broken, clips),
    )


def study(
    confidence: np.ndarray,
    discrepancy: np.ndarray,
    distilled: np.ndarray,
    alone: np.ndarray,
    teacher: np.ndarray,
    bins: int,
) -> dict:
    """Sorts the clips by one teacher and compares in every bin.

    Args:
        confidence (ndarray): Confidence of the teacher, (n,).
        discrepancy (ndarray): Discrepancy of each student trained alone, (B,
            n).
        distilled (ndarray): Whether each distilled student is right, (S, n).
        alone (ndarray): Whether each student trained alone is right, (B, n).
            Of several, each sorts the clips and the others are compared,
            because its own mistakes are in the bins far from a confident
            teacher, and another training would fix some of them.
        teacher (ndarray): Whether the teacher is right, (n,).
        bins (int): Number of quantile bins of each of the two.

    Returns:
        dict: Edges of the bins; ``cells[i][j]`` of confidence bin i and
            discrepancy bin j (0 is the lowest), the two margins, ``overall``,
            and the ``claim``: the corner where both are highest vs. the rest.
    """
    shares = np.linspace(0, 1, bins + 1)
    edges = [np.quantile(x, shares) for x in (confidence, discrepancy)]
    # (B, n); a value on an edge belongs to the bin above it
    row, column = (
        np.broadcast_to(
            np.searchsorted(edge[1:-1], values, side='right'),
            discrepancy.shape,
        )
        for edge, values in zip(edges, (confidence, discrepancy))
    )

    right, runs = distilled.mean(axis=0), len(alone)
    others = alone.astype(float)
    if runs > 1:
        others = (others.sum(axis=0) - others) / (runs - 1)

    def within(inside: np.ndarray) -> dict:
        return compare(inside, right, others, teacher)

    places = range(bins)
    result = dict(
        confidence_edges=edges[0].tolist(),
        discrepancy_edges=edges[1].tolist(),
        cells=[
            [within((row == i) & (column == j)) for j in places]
            for i in places
        ],
        by_confidence=[within(row == i) for i in places],
        by_discrepancy=[within(column == j) for j in places],
        overall=within(np.ones(discrepancy.shape, dtype=bool)),
    )
    corner = (row == bins - 1) & (column == bins - 1)
    result['claim'] = contrast(within(corner), within(~corner))
    return result


def contrast(corner: dict, rest: dict) -> dict:
    """Compares the gain in the corner with that elsewhere.

    Args:
        corner, rest (dict): Results of :func:`compare`.

    Returns:
        dict: ``rest``, the ``difference`` of the two gains, its 95 %
            ``interval`` from both intervals (MOVER, Zou and Donner 2008) and a
            ``verdict``. None if one of them has no clip.
    """
    if corner['gain'] is None or rest['gain'] is None:
        return dict(
            rest=rest,
            difference=None,
            interval=None,
            verdict='cannot be told: one of the two has no clip',
        )
    difference = corner['gain'] - rest['gain']
    below = math.hypot(
        corner['gain'] - corner['interval'][0],
        rest['interval'][1] - rest['gain'],
    )
    above = math.hypot(
        corner['interval'][1] - corner['gain'],
        rest['gain'] - rest['interval'][0],
    )
    low, high = difference - below, difference + above
    if low <= 0 <= high:
        verdict = 'not told apart from the rest by these clips'
    elif low > 0:
        verdict = 'larger, as the paper says'
    else:
        verdict = 'smaller, against the paper'
    return dict(
        rest=rest,
        difference=difference,
        interval=[low, high],
        verdict=verdict,
    )


def study_part(
    answers: Answers, part: ClassPart, options: dict, bins: int
) -> Dict[str, dict]:
    """Runs :func:`study` for every teacher and one part of the head.

    Args:
        answers (Answers): Outputs of all models.
        part (ClassPart): Only its logits and labels are used.
        options (dict): Result of :func:`measures`.
        bins (int): Quantile bins.

    Returns:
        dict[str, dict]: Teacher's name -> its study.
    """
    labels = part.labels_of(answers.labels)  # (n,)

    def right(logits: Tensor) -> np.ndarray:
        return (logits.argmax(dim=-1) == labels).numpy()

    distilled = [part.logits_of(logits) for logits in answers.distilled]
    alone = [part.logits_of(logits) for logits in answers.alone]
    results = {}
    for name, logits in answers.teachers.items():
        logits = part.logits_of(logits)
        results[name + part.suffix] = study(
            teacher_confidence(
                logits, options['conf_temperature'], options['confidence']
            ).numpy(),
            np.stack(
                [
                    student_teacher_discrepancy(
                        student, logits, options['discrepancy'], options['tau']
                    ).numpy()
                    for student in alone
                ]
            ),
            np.stack([right(student) for student in distilled]),
            np.stack([right(student) for student in alone]),
            right(logits),
            bins,
        )
    return results


def points(share: float) -> str:
    """Formats a difference of accuracies in points."""
    return '' if share is None else f'{100 * share:+.1f}'


def percent(share: float) -> str:
    """Formats an accuracy in percent."""
    return '' if share is None else f'{100 * share:.1f}'


def span(edges: List[float], index: int) -> str:
    """Describes the range of a bin."""
    return f'{edges[index]:.3f} to {edges[index + 1]:.3f}'


def interval_of(cell: dict) -> str:
    """Formats an interval in points."""
    if cell['interval'] is None:
        return ''
    return f'{points(cell["interval"][0])} to {points(cell["interval"][1])}'


def noise_of(cell: dict) -> str:
    """Returns whether a gain may be chance, in words."""
    if cell['gain'] is None:
        return 'no clip'
    return 'within noise' if cell['within_noise'] else ''


def show(name: str, result: dict, console: Console) -> None:
    """Prints the table of one teacher and a conclusion."""
    table = Table(title=f'{name} teacher')
    for title in (
        *('confidence', 'discrepancy', 'clips', 'teacher %', 'alone %'),
        *('distilled %', 'fixed', 'broken', 'gain', '95 % interval', ''),
    ):
        table.add_column(title, justify='right', no_wrap=True)

    def add(confidence: str, discrepancy: str, cell: dict) -> None:
        table.add_row(
            confidence,
            discrepancy,
            f'{cell["clips"]:.4g}',
            percent(cell['accuracy_teacher']),
            percent(cell['accuracy_alone']),
            percent(cell['accuracy_distilled']),
            f'{cell["fixed"]:.4g}',
            f'{cell["broken"]:.4g}',
            points(cell['gain']),
            interval_of(cell),
            noise_of(cell),
        )

    rows, columns = result['confidence_edges'], result['discrepancy_edges']
    for i, line in reversed(list(enumerate(result['cells']))):
        for j, cell in enumerate(line):
            add(span(rows, i), span(columns, j), cell)
        table.add_section()
    for i, cell in reversed(list(enumerate(result['by_confidence']))):
        add(span(rows, i), 'all', cell)
    table.add_section()
    for j, cell in enumerate(result['by_discrepancy']):
        add('all', span(columns, j), cell)
    table.add_section()
    add('all', 'all', result['overall'])
    console.print(table)

    claim, corner = result['claim'], result['cells'][-1][-1]
    text = f'{name}: where confidence and discrepancy are highest the gain'
    if claim['difference'] is None:
        text += f' {claim["verdict"]}.'
    else:
        low, high = claim['interval']
        text += (
            f' is {points(corner["gain"])} points, elsewhere '
            f'{points(claim["rest"]["gain"])}; the difference is '
            f'{points(claim["difference"])} ({points(low)} to '
            f'{points(high)}): {claim["verdict"]}.'
        )
    console.print(text)


def draw(results: Dict[str, dict]) -> Figure:
    """Draws the gain in every bin, one heat map per teacher.

    Args:
        results (dict[str, dict]): Teacher's name -> :func:`study`.
    """
    grids = {name: with_margins(result) for name, result in results.items()}
    side = 1.4 * len(next(iter(grids.values())))
    figure, axes = plt.subplots(
        1,
        len(grids),
        figsize=((side + 1.2) * len(grids) + 1, side + 1.7),
        squeeze=False,
        layout='constrained',
    )
    gains = [
        abs(cell['gain'])
        for grid in grids.values()
        for line in grid
        for cell in line
        if cell['gain'] is not None
    ]
    largest = max([*gains, 0.01])
    for (name, grid), axis in zip(grids.items(), axes.flat):
        image = draw_grid(axis, grid, results[name], largest)
        axis.set_title(f'{name} teacher', fontsize=12)
    figure.suptitle(
        'Accuracy of the distilled student minus that of the student alone'
    )
    figure.colorbar(image, ax=axes, pad=0.02, label='gain in points')
    return figure


def with_margins(result: dict) -> List[List[dict]]:
    """Adds a row and a column for all clips."""
    grid = [
        [*line, margin]
        for line, margin in zip(result['cells'], result['by_confidence'])
    ]
    return [*grid, [*result['by_discrepancy'], result['overall']]]


def draw_grid(
    axis: plt.Axes, grid: List[List[dict]], result: dict, largest: float
) -> plt.cm.ScalarMappable:
    """Draws one heat map; confidence upwards, discrepancy to the right."""
    bins = len(grid) - 1
    gains = np.array(
        [
            [np.nan if c['gain'] is None else c['gain'] for c in line]
            for line in grid
        ]
    )
    image = axis.imshow(
        100 * gains,
        cmap='RdBu',
        vmin=-100 * largest,
        vmax=100 * largest,
        origin='lower',
    )
    for i, line in enumerate(grid):
        for j, cell in enumerate(line):
            lines = [noise_of(cell)]
            if cell['gain'] is not None:
                lines = [
                    points(cell['gain']),
                    interval_of(cell),
                    f'{cell["clips"]:.4g} clips',
                    *lines,
                ]
            dark = abs(cell['gain'] or 0) > 0.65 * largest
            axis.text(
                *(j, i, '\n'.join(filter(None, lines))),
                ha='center',
                va='center',
                fontsize=8,
                color='white' if dark else 'black',
            )
    for place in (axis.axhline, axis.axvline):
        place(bins - 0.5, color='black', lw=2)
    labels = {
        what: [
            span(result[f'{what}_edges'], i).replace(' to ', '\nto ')
            for i in range(bins)
        ]
        for what in ('discrepancy', 'confidence')
    }
    ticks = range(bins + 1)
    axis.set_xticks(ticks, [*labels['discrepancy'], 'all'], fontsize=9)
    axis.set_yticks(ticks, [*labels['confidence'], 'all'], fontsize=9)
    axis.set_xlabel('discrepancy of the student alone (Eq. 5)', fontsize=10)
    axis.set_ylabel('confidence of the teacher (Eq. 4)', fontsize=10)
    return image


def main() -> None:
    """Runs the models, sorts, compares and shows."""
    args = parse_args()
    try:
        for path in filter(None, (args.out, args.json)):
            os.makedirs(osp.dirname(osp.abspath(path)), exist_ok=True)
        runs: Tuple[List[str], List[str]] = (
            find_runs(args.student, 'STUDENT'),
            find_runs(args.baseline, 'BASELINE'),
        )
        config, distiller = build_distiller(args.config, args.cfg_options)
        answers = ask_all(
            distiller, config, runs, args.batch_size, args.workers
        )
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    options = measures(distiller)
    results: Dict[str, dict] = {}
    for part in distiller.parts:
        results.update(study_part(answers, part, options, args.bins))
    console = Console()
    console.width = max(console.width, 140)  # no column is cut off
    console.print(
        f'{len(answers.labels)} clips, one centre view; {len(runs[0])} '
        f'distilled run(s), {len(runs[1])} alone; confidence '
        f'{options["confidence"]}, discrepancy {options["discrepancy"]}, tau '
        f'{options["tau"]:g}. Gains in points, {INTERVAL}.'
    )
    for name, result in results.items():
        show(name, result, console)
    compared = COMPARED[len(runs[1]) > 1]
    console.print(compared)
    save_figure(draw(results), args.out, dpi=120)
    console.print(f'Picture: {args.out}')
    if args.json:
        write_json(
            args.json,
            dict(
                config=args.config,
                students=runs[0],
                baselines=runs[1],
                clips=len(answers.labels),
                interval=INTERVAL,
                compared=compared,
                measures=options,
                teachers=results,
            ),
            indent=1,
        )
        console.print(f'Numbers: {args.json}')


if __name__ == '__main__':
    main()
