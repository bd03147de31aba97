"""The sections of the page, one function each."""

import math
import os.path as osp
import statistics
from html import escape
from typing import Iterable, List, Sequence

import numpy as np
from plot_run import curve, smoothed
from reproduction.table import mean_and_deviation

from . import comparison, svg
from .findings import Clip, Findings, Model
from .runs import TrainedRun

# Rows of a table of classes that are shown before the reader asks for all.
OPEN_CLASSES = 40
BEFORE, AFTER = 'student alone', 'distilled student'


def paragraph(*sentences: str) -> str:
    """Returns sentences as one paragraph."""
    return f'<p>{escape(" ".join(sentences))}</p>'


def absent(why: str) -> str:
    """Says why a part of the page is not there."""
    return f'<p class="absent">Not available. {escape(why)}</p>'


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = ''
) -> str:
    """Returns a table; cells are HTML, the first one names its row.

    Args:
        head (Sequence[str]): Names of the columns.
        rows (Iterable[Sequence[str]]): The cells of each row.
        kind (str): CSS class. ``'stack'`` writes the cells of a row below
            each other on a phone.
    """
    names = ''.join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = ''
    for first, *cells in rows:
        body += f'<tr><th scope="row">{first}</th>' + ''.join(
            f'<td data-name="{escape(name)}">{cell}</td>'
            for name, cell in zip(head[1:], cells)
        )
        body += '</tr>'
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{names}</tr>'
        f'</thead><tbody>{body}</tbody></table></div>'
    )


def overview(found: Findings) -> str:
    """What distillation changed, in sentences."""
    parts = []
    if found.answers is None:
        parts.append(absent(found.missing['answers']))
    elif not (found.roles.alone and found.roles.distilled):
        lacking = AFTER if found.roles.alone else BEFORE
        parts.append(
            absent(
                f'No {lacking} was found, so there is nothing to compare with.'
            )
        )
    else:
        parts.append(
            '<p class="verdict">'
            + escape(
                ' '.join(
                    comparison.verdict(
                        found.right('alone'), found.right('distilled')
                    )
                )
            )
            + '</p>'
        )
    if any(run.chosen_by_accuracy for run in found.roles.students) and (
        found.split == 'val'
    ):
        parts.append(
            paragraph(
                'The checkpoints were chosen by the accuracy on these clips, '
                'so the accuracies are slightly too high.'
            )
        )
    parts += [paragraph(note) for note in found.notes]
    return ''.join(parts)


def models(found: Findings) -> str:
    """Accuracy and cost of every model."""
    head = [
        'model',
        'runs',
        'top-1 %',
        'clip',
        'parameters',
        'MACs',
        'file',
        'latency',
        'training',
    ]
    lists = dict(val='validation', test='test')[found.split]
    told = [
        f'Top-1 accuracy on the {lists} list'
        + (
            '; of teachers and further trainings, on the validation list, as '
            'logged'
            if found.split == 'test'
            else '; of teachers and further trainings, as logged'
        )
        + '. Several runs: mean ± standard deviation.',
        'MACs are multiply-adds per clip. File is the size of the weights '
        'without the optimizer. Latency is the median time of one clip in '
        f'PyTorch, without decoding ({found.machine}); other work on the '
        'machine makes it longer. It is measured once for equal models.',
    ]
    return paragraph(*told) + table(
        head, map(_model_row, found.models), 'stack'
    )


def _model_row(model: Model) -> List[str]:
    title = escape(model.title)
    if model.note:
        title += f'<br><small>{escape(model.note)}</small>'
    cost, cells = model.cost, ['-'] * 4
    if cost is not None:
        frames, size = cost.clip
        cells = [
            f'{frames} × {size}²',
            quantity(cost.parameters),
            quantity(cost.macs),
            f'{cost.bytes / 1e6:.2f} MB',
        ]
    latency = '-' if model.latency is None else milliseconds(model.latency)
    seconds = [s for s in (run.seconds() for run in model.runs) if s]
    return [
        title,
        str(len(model.runs) or '-'),
        mean_and_deviation(model.accuracies),
        *cells,
        latency,
        duration(statistics.fmean(seconds)) if seconds else '-',
    ]


def quantity(value: float) -> str:
    """Formats a large number: ``'3.76 M'``."""
    for unit, size in (('G', 1e9), ('M', 1e6), ('k', 1e3)):
        if value >= size:
            return f'{value / size:.2f} {unit}'
    return f'{value:.0f}'


def milliseconds(seconds: float) -> str:
    """Formats a latency."""
    value = 1000 * seconds
    return f'{value:.1f} ms' if value < 100 else f'{value:.0f} ms'


def duration(seconds: float) -> str:
    """Formats the time of a training."""
    if seconds < 120:
        return f'{seconds:.0f} s'
    if seconds < 7200:
        return f'{seconds / 60:.0f} min'
    return f'{seconds / 3600:.1f} h'


def by_class(found: Findings) -> str:
    """Accuracy per class before and after."""
    if found.answers is None:
        return absent(found.missing['answers'])
    results = comparison.per_class(
        found.answers.labels,
        found.right('alone'),
        found.right('distilled'),
        found.classes,
    )
    both = bool(found.roles.alone and found.roles.distilled)
    if both:
        results.sort(key=lambda result: -result.gain)
    rows = []
    for result in results:
        before = statistics.fmean(result.before) if result.before else None
        after = statistics.fmean(result.after) if result.after else None
        gain = '-'
        if both:
            kind = 'good' if result.gain > 0 else 'bad'
            kind = 'same' if abs(result.gain) < 0.05 else kind
            gain = f'<span class="{kind}">{result.gain:+.1f}</span>'
        rows.append(
            [
                f'{escape(result.name)} <small>{result.label}</small>',
                gain,
                svg.dumbbell(before, after),
                mean_and_deviation(result.before, 1),
                mean_and_deviation(result.after, 1),
                str(result.clips),
            ]
        )
    head = ['class', 'gain', '0 to 100 %', 'alone %', 'distilled %', 'clips']
    text = paragraph(
        'Circle: student alone. Dot: distilled student. The small number '
        'behind a class is its label. A class with few clips changes by '
        'large steps: one of 10 clips is 10 points.'
    )
    if len(rows) <= OPEN_CLASSES:
        return text + table(head, rows)
    half = OPEN_CLASSES // 2
    return (
        text
        + paragraph(f'The {half} classes with the largest gain:')
        + table(head, rows[:half])
        + paragraph(f'The {half} classes with the smallest:')
        + table(head, rows[-half:])
        + f'<details><summary>The {len(rows) - 2 * half} other classes'
        + f'</summary>{table(head, rows[half:-half])}</details>'
    )


def confusions(found: Findings) -> str:
    """Confusion matrices, and the confusions that changed most."""
    if found.answers is None:
        return absent(found.missing['answers'])
    predicted = found.answers.scores.argmax(2)
    begin = len(found.roles.alone)
    counts = {
        title: comparison.confusion(
            found.answers.labels, runs, len(found.classes)
        )
        for title, runs in (
            (BEFORE, predicted[:begin]),
            (AFTER, predicted[begin:]),
        )
        if len(runs)
    }
    text = paragraph(
        'Row: the class of a clip. Column: the answer. The diagonal holds '
        'the right answers. The darker a cell, the larger its share of the '
        'row. Point at a cell to read its classes and its count.'
    )
    if max(map(len, (predicted[:begin], predicted[begin:]))) > 1:
        text += paragraph('The answers of all runs are counted together.')
    drawn = ''.join(
        svg.matrix(matrix, found.classes, title)
        for title, matrix in counts.items()
    )
    text += f'<div class="charts">{drawn}</div>'
    if len(found.classes) <= 30:
        names = ', '.join(
            f'{i} {name}' for i, name in enumerate(found.classes)
        )
        text += f'<p><small>{escape(names)}</small></p>'
    if len(counts) == 2:
        text += _changed_confusions(found, *counts.values())
    return text


def _changed_confusions(
    found: Findings, before: np.ndarray, after: np.ndarray
) -> str:
    # Per run, since there may be more runs of one than of the other.
    difference = after / len(found.roles.distilled)
    difference = difference - before / len(found.roles.alone)
    np.fill_diagonal(difference, 0)
    text = ''
    for title, order in (
        ('Confusions that distillation removed most', 1),
        ('Confusions that it added most', -1),
    ):
        flat = np.argsort(order * difference, axis=None, kind='stable')[:5]
        items = []
        for row, column in zip(*np.unravel_index(flat, difference.shape)):
            if order * difference[row, column] >= 0:
                continue
            counted = [
                f'{m[row, column] / len(runs):.3g}'
                for m, runs in (
                    (before, found.roles.alone),
                    (after, found.roles.distilled),
                )
            ]
            items.append(
                f'<li>{escape(found.classes[row])} taken for '
                f'{escape(found.classes[column])}: {counted[0]} → '
                f'{counted[1]} clips</li>'
            )
        if items:
            text += f'<h3>{title}</h3><ul>{"".join(items)}</ul>'
    return text


def clips(found: Findings) -> str:
    """Clips that distillation fixed and broke."""
    if found.answers is None:
        return absent(found.missing['answers'])
    if not (found.roles.alone and found.roles.distilled):
        return absent('It needs the student alone and the distilled one.')
    changed = comparison.changed_clips(
        found.right('alone'), found.right('distilled')
    )
    text = ''
    for word, shown, every in zip(
        ('Fixed', 'Broken'), (found.fixed, found.broken), changed
    ):
        text += f'<h3>{word}: {len(every)} clips</h3>'
        if len(shown) < len(every):
            text += paragraph(
                f'Shown are {len(shown)}: those that change in most runs, '
                'every class once before any comes twice.'
            )
        pictures = ''.join(_clip(found, clip) for clip in shown)
        text += f'<div class="clips">{pictures}</div>'
    return (
        paragraph(
            'Fixed: recognised by the distilled student and not by the '
            'student alone (of several runs: by a larger share of the runs). '
            'Broken: the other way round. The pictures show what the '
            'students see.'
        )
        + text
    )


def _clip(found: Findings, clip: Clip) -> str:
    index = clip.changed.index
    answers = found.answers
    label = int(answers.labels[index])
    begin = len(found.roles.alone)
    lines = ''
    for title, scores, right in (
        ('alone', answers.scores[:begin, index], clip.changed.before),
        ('distilled', answers.scores[begin:, index], clip.changed.after),
    ):
        if len(scores) == 1:
            answer = int(scores[0].argmax())
            told = f'{found.classes[answer]} {100 * scores[0, answer]:.0f} %'
        else:
            told = f'right in {right} of {len(scores)} runs'
        mark, kind = {0: ('✗', 'bad'), len(scores): ('✓', 'good')}.get(
            right, ('', 'same')
        )
        lines += f'<span class="{kind}">{title}: {escape(told)} {mark}</span>'
    name = osp.basename(answers.names[index])
    return (
        '<figure class="clip"><picture>'
        '<source media="(prefers-reduced-motion: reduce)" '
        f'srcset="{clip.still}">'
        f'<img src="{clip.moving}" alt="{escape(found.classes[label])}">'
        f'</picture><figcaption><b>{escape(found.classes[label])}</b>'
        f'{lines}<small>{escape(name)}</small></figcaption></figure>'
    )


def curves(found: Findings) -> str:
    """Validation accuracy and losses over the training."""
    roles = found.roles
    named = [
        (BEFORE, roles.alone, 0, False),
        (AFTER, roles.distilled, 1, False),
    ]
    named += [
        (teacher.title, [teacher.run], 2 + i, True)
        for i, teacher in enumerate(roles.teachers)
        if teacher.run
    ]
    drawn = [_accuracy_chart(named), _label_loss_chart(named[:2])]
    if roles.distilled:
        drawn.append(_terms_chart(roles.distilled[0]))
    drawn = [chart for chart in drawn if chart]
    if not drawn:
        return absent('The logs hold no curve.')
    return (
        paragraph(
            'Every run is one curve. Losses are averaged over a fortieth of '
            'the training.'
        )
        + f'<div class="charts">{"".join(drawn)}</div>'
    )


def _accuracy_chart(named) -> str:
    series = []
    for title, runs, colour, dashed in named:
        for run in runs:
            steps, values = curve(run.log, 'acc/top1', True)
            if len(steps):
                share = 100 * steps / steps[-1]
                series.append(
                    svg.Series(
                        title, share, 100 * values, colour, dashed, True
                    )
                )
    if not series:
        return ''
    return svg.line_chart(
        series, 'Validation accuracy', '% of the training', 'top-1 %'
    )


def trained_curve(run: TrainedRun, key: str):
    """Returns the steps and averaged values of a training scalar."""
    steps, values = curve(run.log, key, False)
    width = max(1, len(values) // 40)
    return steps, smoothed(values, width) if width > 1 else values


def _label_loss_chart(named) -> str:
    series = []
    for title, runs, colour, dashed in named:
        for run in runs:
            steps, values = trained_curve(run, 'loss_cls')
            if len(steps):
                series.append(svg.Series(title, steps, values, colour, dashed))
    if not series:
        return ''
    return svg.line_chart(
        series, 'Label loss on training clips', 'iteration', 'loss_cls'
    )


def _terms_chart(run: TrainedRun) -> str:
    keys = dict.fromkeys(
        key
        for record in run.log.training
        for key in record
        if key.startswith('loss_')
    )
    series = []
    for i, key in enumerate(keys):
        steps, values = trained_curve(run, key)
        series.append(svg.Series(key, steps, values, i % 6, i >= 6))
    title = 'Loss terms of the distilled student, as weighted'
    return svg.line_chart(series, title, 'iteration', 'loss')


def teacher_weights(found: Findings) -> str:
    """Weights of the teachers over time and by class."""
    if not found.roles.distilled:
        return absent(found.missing['teachers'])
    text = ''
    run = found.roles.distilled[0]
    names = [teacher.name for teacher in found.roles.teachers]
    drawn = []
    for prefix, title, label in (
        ('datw', 'Weight of each teacher', 'weight'),
        ('trust', 'Trust in each teacher', 'trust'),
    ):
        series = []
        for i, name in enumerate(names):
            steps, values = trained_curve(run, f'{prefix}/{name}')
            if len(steps):
                series.append(svg.Series(name, steps, values, 2 + i, i > 0))
        if series:
            drawn.append(
                svg.line_chart(series, title, 'iteration', label, (0, 1))
            )
    if drawn:
        text += paragraph(
            'DATW weights the teachers per clip by confidence and by the '
            'distance of the student (Eq. 4 to 6). Trust is the factor from '
            'the accuracy of the teacher on the training clips. The curves '
            'are means over a batch.'
        )
        text += f'<div class="charts">{"".join(drawn)}</div>'
    else:
        text += absent('The training logged no weights of teachers.')
    text += '<h3>By class</h3>'
    if found.taught is None:
        return text + absent(found.missing['teachers'])
    return text + _weights_by_class(found)


def _weights_by_class(found: Findings) -> str:
    taught = found.taught
    names = list(taught.right)
    head = ['class', 'clips', *(f'{name} right' for name in names)]
    head += [f'{name} weight' for name in taught.weights]
    head += ['share'] if taught.weights else []
    rows = []
    for label in np.unique(taught.labels):
        own = taught.labels == label
        means = [float(w[own].mean()) for w in taught.weights.values()]
        rows.append(
            [
                escape(found.classes[label]),
                str(int(own.sum())),
                *(f'{100 * taught.right[n][own].mean():.0f} %' for n in names),
                *(f'{value:.2f}' for value in means),
                *([svg.shares(normalised(means), 2)] if means else []),
            ]
        )
    told = [
        f'The teachers and the distilled student after training were asked '
        f'about {len(taught.labels)} clips, spread evenly over the classes.'
    ]
    if not taught.weights:
        told.append('No loss of this distiller weights the teachers.')
    elif taught.trust:
        told.append(
            'The weights contain the trust at the end of the training: '
            + ', '.join(f'{n} {v:.2f}' for n, v in taught.trust.items())
            + '.'
        )
    return paragraph(*told) + table(head, rows)


def normalised(values: Sequence[float]) -> List[float]:
    """Scales values so that they sum to one."""
    total = math.fsum(values) or 1.0
    return [value / total for value in values]


def masks(found: Findings) -> str:
    """Residuals and masks of a few clips."""
    if not found.masks:
        why = found.missing.get('masks') or found.missing.get('teachers')
        return absent(why or 'No clip was chosen.')
    pictures = ''.join(
        f'<figure class="mask"><div class="scroll"><img src="{mask.picture}" '
        f'alt="frames, residual and masks of clip {mask.index}"></div>'
        f'<figcaption>The loss compares {mask.kept:.1%} of the positions.'
        '</figcaption></figure>'
        for mask in found.masks
    )
    return (
        paragraph(
            'Residual: difference of the two teachers (Eq. 8). Predicted: '
            'what the branch of the student says about it. M_res: positions '
            'with a large residual (Eq. 9). M_act: positions where the CNN '
            'teacher is active (Eq. 10). Kept: what the loss compares.'
        )
        + pictures
    )


def configs(found: Findings) -> str:
    """Exact configs and versions."""
    roles = found.roles
    runs = [
        *((BEFORE, run) for run in roles.alone[:1]),
        *((AFTER, run) for run in roles.distilled[:1]),
        *((t.title, t.run) for t in roles.teachers if t.run),
    ]
    rows = [
        [escape(name), escape(version)]
        for name, version in found.versions.items()
    ]
    text = '<h3>Versions that made this page</h3>'
    text += table(['package', 'version'], rows)
    for title, run in runs:
        launch = (run.record.get('launches') or [{}])[-1]
        facts = [f'seed {run.seed}'] if run.seed is not None else []
        if launch.get('commit'):
            dirty = ' with changes' if launch.get('dirty') else ''
            facts.append(f'commit {launch["commit"][:12]}{dirty}')
        packages = launch.get('packages') or {}
        facts += [f'{name} {version}' for name, version in packages.items()]
        text += (
            f'<details><summary>{escape(title)}: config</summary>'
            f'<p>{escape(", ".join(facts))}</p>'
            f'<pre>{escape(run.text)}</pre></details>'
        )
    return text


SECTIONS = {
    'What changed': overview,
    'Models': models,
    'Accuracy per class': by_class,
    'Confusions': confusions,
    'Clips fixed and broken': clips,
    'Training': curves,
    'Teacher weights': teacher_weights,
    'Masks': masks,
    'Configs and versions': configs,
}
