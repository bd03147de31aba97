"""Draws the curves of one or several runs from the logs of MMEngine.

    python tools/analysis/plot_run.py WORK_DIR [WORK_DIR ...] --out run.png

One panel per quantity: validation accuracy, every loss term, the teachers'
weights, confidences and discrepancies, mask coverage, variance of the
residual, learning rate. Runs share the panels; the logs of a resumed run are
joined.
"""

import argparse
import json
import math
import os
import os.path as osp
from glob import escape, glob
from typing import Dict, List, NamedTuple, Optional, Tuple

import matplotlib
import numpy as np

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from dtkd_mmaction.files import save_figure

plt.style.use('seaborn-v0_8-colorblind')

# Where MMEngine's LocalVisBackend writes, below a work dir.
LOGS = ('*/vis_data/scalars.json', '*/vis_data/*.json')
# Panel -> prefixes of the names of its scalars, in this order.
GROUPS = {
    'teacher weight': (
        'datw/',
        'average/',
        'ebkd/',
        'camkd/',
        'aekd/',
        'unic/',
    ),
    'teacher weight (features)': ('camkd_feature/',),
    'teacher confidence': ('confidence/',),
    'student-teacher discrepancy': ('discrepancy/',),
}
SINGLES = {
    'mask_kept': 'mask_kept (fraction of positions)',
    'residual_var': 'residual_var',
    'grad_norm': 'grad_norm',
    'lr': 'lr',
}
COLUMNS = 4
LINE_STYLES = ('-', '--', ':', '-.')


class Run(NamedTuple):
    """Scalars of one training, read from its work dir.

    Attributes:
        name (str): Name in the legend.
        training (list[dict]): Scalars, one dict per logged step, in order.
        validation (list[dict]): The same for every validation; ``step`` is the
            epoch, or the iteration in a run that counts iterations.
        logs (int): Files that were joined.
    """

    name: str
    training: List[dict]
    validation: List[dict]
    logs: int

    @property
    def by_epoch(self) -> bool:
        """Returns whether the validations count epochs."""
        return 'epoch' in self.training[-1]


class Panel(NamedTuple):
    """Panel of one quantity and the names of its scalars.

    Attributes:
        title (str): Title above it.
        keys (tuple[str]): Scalars that share it.
        validated (bool): Whether they are measured in validations.
    """

    title: str
    keys: Tuple[str, ...]
    validated: bool = False


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR')
    parser.add_argument('--out', default='run.png')
    parser.add_argument(
        '--smooth',
        type=int,
        metavar='N',
        help='average over N logged steps (1: none); default: a fortieth of '
        'the run',
    )
    args = parser.parse_args()
    if args.smooth is not None and args.smooth < 1:
        parser.error(f'--smooth {args.smooth}: a positive number is needed')
    return args


def find_logs(work_dir: str) -> List[str]:
    """Finds the scalar logs of a work dir, one per start of the run.

    Raises:
        FileNotFoundError: If there is none.
    """
    found: Dict[str, str] = {}
    for pattern in LOGS:
        for path in sorted(glob(osp.join(escape(work_dir), pattern))):
            found.setdefault(osp.dirname(path), path)
    if not found:
        where = ' and '.join(osp.join(work_dir, pattern) for pattern in LOGS)
        raise FileNotFoundError(
            f'No scalars found: looked for {where}. WORK_DIR is the folder '
            'that holds the checkpoints of a run; its `visualizer` needs '
            "vis_backends=[dict(type='LocalVisBackend'), ...], which is the "
            'default.'
        )
    return [found[folder] for folder in sorted(found)]  # by timestamp


def read_log(path: str) -> Tuple[List[dict], List[dict]]:
    """Reads the training and validation scalars of one file.

    The last line of a killed run may be incomplete; it is ignored.

    Raises:
        ValueError: If another line is no JSON, or no dict.
    """
    training: List[dict] = []
    validation: List[dict] = []
    with open(path) as f:
        lines = f.read().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise ValueError(f'{path}, line {number}: {error}') from error
        if not isinstance(record, dict):
            raise ValueError(f'{path}, line {number} is no record: {line!r}')
        # MMEngine does not mark them, but only a training logs a loss.
        (training if 'loss' in record else validation).append(record)
    return training, validation


def read_run(work_dir: str) -> Run:
    """Joins the logs of a work dir.

    From its first step on, a later log replaces the earlier ones: the steps
        after the checkpoint from which the run was resumed, or all steps of a
        run that was started again. Logs without a training step (of
        ``tools/test.py``) are ignored.

    Raises:
        FileNotFoundError: If there is no log, or none of a training.
    """
    work_dir = work_dir.rstrip('/')
    training: List[dict] = []
    validation: List[dict] = []
    paths, joined = find_logs(work_dir), 0
    for path in paths:
        trained, validated = read_log(path)
        if not trained:
            continue
        joined += 1
        first = trained[0]
        training = [r for r in training if r['step'] < first['step']]
        begin = first.get('epoch', first['step'])
        validation = [r for r in validation if r['step'] < begin]
        training += trained
        validation += validated
    if not training:
        raise FileNotFoundError(
            f'No scalars of a training found in {", ".join(paths)}.'
        )
    return Run(osp.basename(work_dir), training, validation, joined)


def distinct_names(runs: List[Run], work_dirs: List[str]) -> List[Run]:
    """Names all runs by their paths below their common folder.

    Only if the names of the folders are equal, such as ``seed0``.
    """
    names = [run.name for run in runs]
    if len(set(names)) == len(names):
        return runs
    paths = [osp.abspath(path) for path in work_dirs]
    shared = osp.commonpath([osp.dirname(path) for path in paths])
    return [
        run._replace(name=osp.relpath(path, shared))
        for run, path in zip(runs, paths)
    ]


def panels_of(runs: List[Run]) -> List[Panel]:
    """Returns the panels for which at least one run has data."""
    trained = keys_in([r for run in runs for r in run.training])
    validated = keys_in([r for run in runs for r in run.validation])
    panels = [
        Panel(f'validation {key} (fraction)', (key,), True)
        for key in validated
        if 'top1' in key
    ]
    panels += [Panel(key, (key,)) for key in trained if 'loss' in key]
    for title, prefixes in GROUPS.items():
        members = tuple(key for key in trained if key.startswith(prefixes))
        if members:
            panels.append(Panel(title, members))
    panels += [
        Panel(title, (key,))
        for key, title in SINGLES.items()
        if key in trained
    ]
    return panels


def keys_in(records: List[dict]) -> List[str]:
    """Lists the names of the scalars in the order of their appearance."""
    return list(dict.fromkeys(key for record in records for key in record))


def curve(run: Run, key: str, validated: bool) -> Tuple[np.ndarray, ...]:
    """Returns the steps and values of one scalar."""
    records = run.validation if validated else run.training
    points = [(r['step'], r[key]) for r in records if key in r]
    steps, values = zip(*points) if points else ((), ())
    return np.array(steps), np.array(values, dtype=float)


def smoothed(values: np.ndarray, width: int) -> np.ndarray:
    """Averages over a centred window that shrinks towards the ends."""
    window = np.ones(min(width, len(values)))
    shares = np.convolve(np.ones(len(values)), window, 'same')
    return np.convolve(values, window, 'same') / shares


def draw(runs: List[Run], smooth: Optional[int] = None) -> Figure:
    """Draws all panels.

    Args:
        runs (list[Run]): One colour per run; several scalars of one panel have
            different line styles.
        smooth (int, optional): Number of logged steps to average; the logged
            values are drawn in the background. Defaults to a fortieth of each
            run. Validations and the learning rate are not averaged.
    """
    panels = panels_of(runs)
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(3.8 * columns, 2.8 * rows + 0.5),
        squeeze=False,
        layout='constrained',
    )
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    for axis, panel in zip(axes.flat, panels):
        draw_panel(axis, panel, runs, smooth)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    if len(runs) > 1:
        handles = [
            plt.Line2D([], [], color=f'C{i}', lw=2, label=run.name)
            for i, run in enumerate(runs)
        ]
        figure.legend(
            handles=handles,
            loc='outside upper center',
            ncols=legend_columns(runs, figure.get_figwidth()),
        )
    else:
        figure.suptitle(runs[0].name)
    return figure


def legend_columns(runs: List[Run], width: float) -> int:
    """Returns how many names fit next to each other into a figure."""
    longest = max(len(run.name) for run in runs)
    return max(1, min(len(runs), int(width / (0.6 + 0.1 * longest))))


def draw_panel(
    axis: plt.Axes, panel: Panel, runs: List[Run], smooth: Optional[int] = None
) -> None:
    """Draws one quantity of all runs."""
    as_it_is = panel.validated or panel.keys == ('lr',)
    # A teacher has one style, whichever loss weighs it.
    labels = list(dict.fromkeys(key.split('/')[-1] for key in panel.keys))
    for i, run in enumerate(runs):
        for key in panel.keys:
            j = labels.index(key.split('/')[-1])
            steps, values = curve(run, key, panel.validated)
            if not len(steps):
                continue
            # one run: one colour per scalar
            colour = f'C{j if len(runs) == 1 else i}'
            width = smooth or max(1, len(values) // 40)
            if not as_it_is and width > 1:
                axis.plot(steps, values, color=colour, alpha=0.3, lw=0.8)
                values = smoothed(values, width)
            axis.plot(
                steps,
                values,
                color=colour,
                linestyle=LINE_STYLES[j % len(LINE_STYLES)],
                marker='o' if panel.validated else None,
                markersize=3,
                label=key.split('/')[-1],
            )
    axis.set_title(panel.title, fontsize=11)
    counts_epochs = panel.validated and runs[0].by_epoch
    axis.set_xlabel('epoch' if counts_epochs else 'iteration', fontsize=9)
    axis.tick_params(labelsize=9)
    axis.grid(alpha=0.3)
    if len(panel.keys) > 1:
        handles, labels = axis.get_legend_handles_labels()
        if len(runs) > 1:
            handles = [
                plt.Line2D([], [], color='black', linestyle=h.get_linestyle())
                for h in handles
            ]
        unique = dict(zip(labels, handles))
        low, high = axis.get_ylim()
        axis.set_ylim(low, high + 0.2 * (high - low))  # no curve behind it
        axis.legend(
            unique.values(),
            unique.keys(),
            fontsize=9,
            loc='upper center',
            ncols=len(unique),
        )


def summary(run: Run) -> str:
    """Describes a run in one line: its length and best validation."""
    text = (
        f'{run.name}: {run.logs} log(s), {run.training[-1]["step"]} iterations'
    )
    unit = 'epoch' if run.by_epoch else 'iteration'
    for key in keys_in(run.validation):
        if 'top1' in key:
            steps, values = curve(run, key, True)
            best = int(values.argmax())
            text += (
                f', best {key} {values[best]:.4f} ({unit} {steps[best]}), '
                f'last {values[-1]:.4f}'
            )
    return text


def main() -> None:
    """Reads the runs, describes and draws them."""
    args = parse_args()
    try:
        runs = [read_run(path) for path in args.work_dirs]
        os.makedirs(osp.dirname(osp.abspath(args.out)), exist_ok=True)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    runs = distinct_names(runs, args.work_dirs)
    for run in runs:
        print(summary(run))
    save_figure(draw(runs, args.smooth), args.out, dpi=110)
    print(f'{args.out}: {len(panels_of(runs))} panels')


if __name__ == '__main__':
    main()
