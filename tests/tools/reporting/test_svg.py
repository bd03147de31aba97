"""Charts are well-formed and show the values that they are given."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import report  # noqa: F401  (finds the helpers of tools/analysis)
from reporting.svg import (
    MAX_POINTS,
    Series,
    dumbbell,
    line_chart,
    matrix,
    shares,
    ticks,
)


def points(chart):
    (line,) = re.findall(r'points="([^"]*)"', chart)
    return np.array([pair.split(',') for pair in line.split()], float)


@pytest.mark.parametrize(
    'low, high, expected',
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (13, 96, [20, 40, 60, 80]),
        (-0.4, 0.3, [-0.4, -0.2, 0, 0.2]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_a_curve_keeps_its_shape_and_its_end():
    x = np.arange(1000.0)
    chart = line_chart([Series('a', x, x**2, 0)], 't', 'x', 'y')
    drawn = points(chart)
    assert len(drawn) == MAX_POINTS
    assert (np.diff(drawn[:, 0]) > 0).all()
    assert (np.diff(drawn[:, 1]) <= 0).all()  # y points down
    height = drawn[0, 1] - drawn[:, 1]
    width = drawn[:, 0] - drawn[0, 0]
    assert np.allclose(
        height / height[-1], (width / width[-1]) ** 2, atol=0.01
    )


def test_values_that_are_not_finite_are_left_out():
    y = np.array([1, np.nan, np.inf, 2])
    chart = line_chart([Series('a', np.arange(4.0), y, 0)], 't', 'x', 'y')
    assert len(points(chart)) == 2
    nothing = Series('a', np.arange(2.0), np.full(2, np.nan), 0)
    assert line_chart([nothing], 't', 'x', 'y') == ''
    one = Series('a', np.ones(1), np.ones(1), 0)
    assert np.isfinite(points(line_chart([one], 't', 'x', 'y'))).all()


def test_names_are_text():
    names = ['<a> & "b"', 'c']
    series = [
        Series(name, np.arange(2.0), np.arange(2.0), 0) for name in names
    ]
    for drawn in (
        line_chart(series, names[0], names[0], names[0]),
        matrix(np.array([[1, 2], [0, 3]]), names, names[0]),
    ):
        text = ''.join(ET.fromstring(drawn).itertext())
        assert names[0] in text


def test_a_matrix_of_many_classes_draws_only_what_was_answered():
    counts = np.diag(np.full(400, 3))
    counts[0, 1] = 1
    drawn = ET.fromstring(matrix(counts, [f'c{i}' for i in range(400)], 't'))
    titles = [title.text for title in drawn.iter('title')]
    assert len(titles) == 401
    assert 'c0: 1 answered c1 (25%)' in titles


def test_bars_and_dumbbells_are_well_formed():
    bar = ET.fromstring(shares([0.25, 0.75], 2))
    assert [r.get('width') for r in bar] == ['25.00', '75.00']
    good, bad = dumbbell(10, 20), dumbbell(20, 10)
    assert '--good' in good and '--bad' in bad
    assert len(ET.fromstring(dumbbell(None, 20)).findall('circle')) == 1
