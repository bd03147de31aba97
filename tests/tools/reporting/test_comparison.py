"""Counts and tests on clips whose answers are written down here."""

import math

import numpy as np
import pytest
import report  # noqa: F401  (finds the helpers of tools/analysis)
from reporting.comparison import (
    Changed,
    changed_clips,
    confusion,
    exact_sign_test,
    mean_difference,
    per_class,
    spread_over_classes,
    verdict,
)
from reporting.teachers import choose_evenly
from scipy.stats import binomtest

LABELS = np.array([0, 0, 0, 2])
BEFORE = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool)
AFTER = np.array([[1, 0, 1, 1]], bool)


def test_accuracy_per_class():
    first, last = per_class(LABELS, BEFORE, AFTER, ['a', 'b', 'c'])
    assert (first.label, first.name, first.clips) == (0, 'a', 3)
    assert first.before == pytest.approx([200 / 3, 100 / 3])
    assert first.gain == pytest.approx(200 / 3 - 50)
    assert (last.name, last.before, last.after) == ('c', [0, 0], [100])
    nobody = np.zeros((0, 4), bool)
    assert math.isnan(per_class(LABELS, nobody, AFTER, 'abc')[0].gain)


def test_clips_that_change_in_most_runs_come_first():
    fixed, broken = changed_clips(BEFORE, AFTER)
    assert [c.index for c in fixed] == [2, 3]
    assert broken == [Changed(1, before=1, after=0, change=-0.5)]


def test_every_class_comes_once_before_any_comes_twice():
    clips = [Changed(i, 0, 1, 1.0) for i in range(4)]
    chosen = spread_over_classes(clips, LABELS, 3)
    assert [clip.index for clip in chosen] == [0, 3, 1]
    assert choose_evenly(LABELS.tolist(), 3) == [0, 1, 3]


def test_confusions_of_all_runs():
    predicted = np.array([[0, 2, 0, 2], [0, 2, 1, 0]])
    counts = confusion(LABELS, predicted, 3)
    assert counts.tolist() == [[3, 1, 2], [0, 0, 0], [1, 0, 1]]


@pytest.mark.parametrize('fixed, broken', [(9, 1), (1, 9), (5, 5), (0, 4)])
def test_the_sign_test_is_exact(fixed, broken):
    expected = binomtest(fixed, fixed + broken).pvalue
    assert exact_sign_test(fixed, broken) == pytest.approx(expected)


def test_difference_of_means():
    difference, error = mean_difference([50, 54], [60, 62, 64])
    assert difference == pytest.approx(10)
    assert error == pytest.approx(math.sqrt(8 / 2 + 4 / 3))
    assert math.isnan(mean_difference([50], [60])[1])


def test_the_verdict_hides_nothing():
    worse = ' '.join(verdict(BEFORE[:1], BEFORE[1:]))
    assert '50.0 % and the distilled student 25.0 %: 25.0 points less' in worse
    assert 'fixed 0 clips and broke 1' in worse
    assert 'Each student was trained once' in worse
    several = ' '.join(verdict(BEFORE, np.repeat(AFTER, 2, 0)))
    assert 'on average of 2 trainings alone and 2' in several
    assert '+37.5 points with a standard error of 12.5' in several
    assert 'trained once' not in several
