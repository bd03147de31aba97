"""Draws charts as inline SVG that follows the colours of the page.

Colours are CSS variables: ``--c0`` to ``--c5`` for series, ``--text``,
``--faint`` for lines. So one drawing serves light, dark and print.
"""

import math
from html import escape
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 12, 40
MAX_POINTS = 150


class Series(NamedTuple):
    """One curve of a chart.

    Attributes:
        name (str): In the legend; curves of one name share an entry.
        x (np.ndarray): (n,)
        y (np.ndarray): (n,)
        colour (int): Number of the CSS variable.
        dashed (bool): Whether the line is dashed. Defaults to False.
        dots (bool): Whether the points are marked. Defaults to False.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    colour: int
    dashed: bool = False
    dots: bool = False


def ticks(low: float, high: float, number: int = 5) -> List[float]:
    """Returns round values from ``low`` to ``high``, about ``number``."""
    if not high > low:
        return [low]
    raw = (high - low) / number
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def thinned(x: np.ndarray, y: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Keeps at most :data:`MAX_POINTS` points, the last one among them."""
    if len(x) <= MAX_POINTS:
        return x, y
    kept = np.linspace(0, len(x) - 1, MAX_POINTS).round().astype(int)
    return x[kept], y[kept]


def line_chart(
    series: Sequence[Series],
    title: str,
    x_label: str,
    y_label: str,
    y_range: Optional[Tuple[float, float]] = None,
) -> str:
    """Draws curves with axes and a legend.

    Args:
        series (Sequence[Series]): One at least, each with one point at
            least; values that are not finite are left out.
        title (str): Above the chart, and its text for screen readers.
        x_label (str): Below.
        y_label (str): At the left.
        y_range (tuple[float, float], optional): Defaults to that of the
            values.

    Returns:
        str: A ``figure`` element.
    """
    finite = []
    for curve in series:
        good = np.isfinite(curve.y)
        finite.append(curve._replace(x=curve.x[good], y=curve.y[good]))
    finite = [curve for curve in finite if len(curve.x)]
    if not finite:
        return ''
    x_low = min(float(c.x.min()) for c in finite)
    x_high = max(float(c.x.max()) for c in finite)
    if y_range is None:
        low = min(float(c.y.min()) for c in finite)
        high = max(float(c.y.max()) for c in finite)
        margin = 0.05 * (high - low) or 0.5
        y_range = low - margin, high + margin

    def place(x: float, y: float) -> Tuple[float, float]:
        across = (x - x_low) / ((x_high - x_low) or 1)
        up = (y - y_range[0]) / ((y_range[1] - y_range[0]) or 1)
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
        )

    parts = [_axes(x_low, x_high, y_range, place, x_label, y_label)]
    for curve in finite:
        x, y = thinned(curve.x, curve.y)
        points = [place(*point) for point in zip(x.tolist(), y.tolist())]
        path = ' '.join(f'{px:.1f},{py:.1f}' for px, py in points)
        dash = ' stroke-dasharray="6 4"' if curve.dashed else ''
        colour = f'var(--c{curve.colour})'
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" '
            f'stroke-width="2"{dash}/>'
        )
        if curve.dots:
            parts += [
                f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.5" '
                f'fill="{colour}"/>'
                for px, py in points
            ]
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
        f'{legend(finite)}</figure>'
    )


def _axes(x_low, x_high, y_range, place, x_label: str, y_label: str) -> str:
    parts = []
    for value in ticks(*y_range):
        _, y = place(x_low, value)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" '
            f'y2="{y:.1f}" stroke="var(--faint)"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f'{value:g}</text>'
        )
    for value in ticks(x_low, x_high):
        x, _ = place(value, y_range[0])
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 17}" '
            f'text-anchor="middle">{value:g}</text>'
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 5}" '
        f'text-anchor="middle">{escape(x_label)}</text>'
        f'<text transform="translate(11 {(TOP + HEIGHT - BOTTOM) / 2}) '
        f'rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
    )
    return ''.join(parts)


def legend(series: Sequence[Series]) -> str:
    """Returns the names of the curves with their colours."""
    named = {curve.name: curve for curve in series}
    entries = []
    for name, curve in named.items():
        dash = ' stroke-dasharray="5 3"' if curve.dashed else ''
        entries.append(
            '<span><svg class="key" viewBox="0 0 20 8" aria-hidden="true">'
            f'<line x1="0" x2="20" y1="4" y2="4" stroke-width="3" '
            f'stroke="var(--c{curve.colour})"{dash}/></svg>'
            f'{escape(name)}</span>'
        )
    return f'<div class="legend">{"".join(entries)}</div>'


def dumbbell(before: Optional[float], after: Optional[float]) -> str:
    """Draws two accuracies, from 0 to 100, on one line.

    Args:
        before (float, optional): A circle.
        after (float, optional): A dot.
    """
    parts = ['<line x1="6" x2="106" y1="8" y2="8" stroke="var(--faint)"/>']
    if before is not None and after is not None:
        colour = 'var(--good)' if after >= before else 'var(--bad)'
        parts.append(
            f'<line x1="{6 + before:.1f}" x2="{6 + after:.1f}" y1="8" y2="8" '
            f'stroke="{colour}" stroke-width="3"/>'
        )
    if before is not None:
        parts.append(
            f'<circle cx="{6 + before:.1f}" cy="8" r="4" fill="var(--card)" '
            'stroke="var(--c0)" stroke-width="2"/>'
        )
    if after is not None:
        parts.append(
            f'<circle cx="{6 + after:.1f}" cy="8" r="4" fill="var(--c1)"/>'
        )
    return (
        '<svg class="dumbbell" viewBox="0 0 112 16" aria-hidden="true">'
        f'{"".join(parts)}</svg>'
    )


def shares(values: Sequence[float], first_colour: int) -> str:
    """Draws shares of one whole as a bar.

    Args:
        values (Sequence[float]): They sum to one.
        first_colour (int): Colour of the first; the next ones follow.
    """
    x, parts = 0.0, []
    for i, value in enumerate(values):
        parts.append(
            f'<rect x="{100 * x:.2f}" y="0" width="{100 * value:.2f}" '
            f'height="12" fill="var(--c{first_colour + i})"/>'
        )
        x += value
    return (
        '<svg class="shares" viewBox="0 0 100 12" preserveAspectRatio="none" '
        f'aria-hidden="true">{"".join(parts)}</svg>'
    )


def matrix(counts: np.ndarray, classes: Sequence[str], title: str) -> str:
    """Draws a confusion matrix; dark cells hold a large share of a row.

    Args:
        counts (np.ndarray): (C, C), row: the class, column: the answer.
        classes (Sequence[str]): Names of the classes.
        title (str): Above it.
    """
    count = len(classes)
    named = count <= 30
    margin = 22 if named else 0
    cell = 300 / count
    parts = []
    for row, column in zip(*np.nonzero(counts)):
        value = int(counts[row, column])
        share = value / counts[row].sum()
        right = row == column
        x, y = margin + column * cell, margin + row * cell
        text = (
            f'{classes[row]}: {value} answered {classes[column]} ({share:.0%})'
        )
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell:.2f}" '
            f'height="{cell:.2f}" fill="var({"--good" if right else "--bad"})"'
            f' fill-opacity="{0.12 + 0.88 * share:.2f}">'
            f'<title>{escape(text)}</title></rect>'
        )
        if count <= 12:
            parts.append(
                f'<text x="{x + cell / 2:.1f}" y="{y + cell / 2 + 4:.1f}" '
                f'text-anchor="middle" class="{"over" if share > 0.5 else ""}'
                f'">{value}</text>'
            )
    if named:
        size = min(11.0, 0.7 * cell)
        for i in range(count):
            middle = margin + (i + 0.5) * cell
            parts.append(
                f'<text x="{margin - 4}" y="{middle + 4:.1f}" '
                f'text-anchor="end" font-size="{size:.1f}">{i}</text>'
                f'<text x="{middle:.1f}" y="{margin - 6}" '
                f'text-anchor="middle" font-size="{size:.1f}">{i}</text>'
            )
    side = margin + 300
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {side + 1} {side + 1}" role="img" '
        f'aria-label="{escape(title)}">'
        f'<rect x="{margin}" y="{margin}" width="300" height="300" '
        f'fill="none" stroke="var(--faint)"/>{"".join(parts)}</svg></figure>'
    )
