"""No source is in two splits, and classes are in both."""

import re
from collections import Counter

import pytest
from probing import group_names
from projects.clips import Clip
from projects.splits import (
    AUTOMATIC,
    class_names,
    divide,
    name_key,
    probe_pattern,
)


def clips(names, split=''):
    return [Clip(f'/v/{name}', name.split('/')[0], split) for name in names]


def named(classes='ab', sources=10, parts=3):
    return clips(
        f'{c}/s{source:02}_p{part}.mp4'
        for c in classes
        for source in range(sources)
        for part in range(parts)
    )


def sources(part, pattern=r'\w/s\d+'):
    return {re.search(pattern, clip.path)[0] for clip in part}


def test_clips_of_one_source_stay_together():
    division = divide(named(), '/v')
    train, val = division.splits['train'], division.splits['val']
    assert not division.problems
    assert not sources(train) & sources(val)
    assert Counter(clip.label for clip in val) == dict(a=6, b=6)
    assert any('last number only' in note for note in division.notes)
    again = divide(named()[::-1], '/v')
    assert set(again.splits['val']) == set(val)
    other = divide(named(), '/v', seed=1)
    assert set(other.splits['val']) != set(val)


def test_a_pattern_across_classes():
    """Source 3 of class a is source 3 of class b."""
    division = divide(named(), '/v', group_by=r's(\d+)_')
    train, val = division.splits['train'], division.splits['val']
    assert not sources(train, r's\d+') & sources(val, r's\d+')
    assert {clip.label for clip in val} == {'a', 'b'}


def test_plain_numbering_is_no_source():
    names = [f'{c}/{c}_{i:03}.mp4' for c in 'ab' for i in range(10)]
    division = divide(clips(names), '/v', val_share=0.3)
    assert Counter(c.label for c in division.splits['val']) == dict(a=3, b=3)
    assert not any('last number' in note for note in division.notes)
    assert probe_pattern(clips(names), 2, None) is None


def test_two_clips_of_a_class():
    division = divide(clips(['a/1.mp4', 'a/2.mp4', 'b/x.mp4', 'b/y.mp4']), '/')
    assert not division.problems
    for part in division.splits.values():
        assert {clip.label for clip in part} == {'a', 'b'}
    assert any('fewer than 10' in note for note in division.notes)


def test_given_splits_are_kept_and_leaks_are_told():
    train = named(parts=2)
    val = clips(['a/s01_p7.mp4', 'b/other.mp4'], 'val')
    given = [clip._replace(split='train') for clip in train] + val
    division = divide(given, '/v')
    assert division.splits['val'] == val
    (warning,) = [note for note in division.notes if 'nearly ident' in note]
    assert 's01_p7' in warning and '1 names in val' in warning
    division = divide(given, '/v', group_by=r'(s\d+|other)')
    assert any('have a source that is in train' in n for n in division.notes)


def test_test_clips_without_validation_clips():
    given = [clip._replace(split='train') for clip in named()]
    given += clips(['a/z.mp4', 'b/z.mp4'], 'test')
    division = divide(given, '/v')
    assert list(division.splits) == ['train', 'val', 'test']
    assert len(division.splits['test']) == 2


@pytest.mark.parametrize(
    'names, options, message',
    [
        (['a/1.mp4', 'a/2.mp4'], {}, 'All clips are of one class'),
        (['a/1.mp4', 'b/1.mp4', 'b/2.mp4'], {}, "one clip only: 'a'"),
        (
            ['a/1.mp4', 'a/2.mp4', 'A/1.mp4', 'A/2.mp4'],
            {},
            'upper and lower case',
        ),
        (
            ['a/s1_1.mp4', 'a/s1_2.mp4', 'b/s2_1.mp4', 'b/s3_1.mp4'],
            dict(group_by=r's\d'),
            "All clips of 'a' are of one source",
        ),
        (
            ['a/1.mp4', 'a/2.mp4', 'b/1.mp4', 'b/2.mp4'],
            dict(group_by='('),
            r'not a regular',
        ),
        (
            ['a/1.mp4', 'a/2.mp4', 'b/1.mp4', 'b/2.mp4'],
            dict(group_by='_g'),
            'does not match 4',
        ),
    ],
)
def test_divisions_that_are_refused(names, options, message):
    problems = divide(clips(names), '/v', **options).problems
    assert any(message in problem for problem in problems), problems


def test_classes_that_miss_in_a_split():
    given = clips(['a/1.mp4', 'b/1.mp4', 'c/1.mp4', 'c/2.mp4'], 'train')
    given += clips(['a/3.mp4', 'b/4.mp4'], 'val')
    division = divide(given, '/v')
    assert not division.problems
    assert any("no validation clip shows 'c'" in n for n in division.notes)
    given += clips(['d/1.mp4', 'd/2.mp4'], 'val')
    (problem,) = divide(given, '/v').problems
    assert "in val and none in train: 'd'" in problem


def test_numbers_are_sorted_by_value():
    assert class_names(clips(['10/a', '2/a', '1/b'])) == ['1', '2', '10']
    assert class_names(clips(['b/a', '10/a', 'a/b'])) == ['10', 'a', 'b']


def test_the_probe_has_the_same_sources():
    all_clips = [*named(), Clip('/v/a/none.mp4', 'a')]
    assert probe_pattern(all_clips, 2, None) == AUTOMATIC
    groups = group_names([clip.path for clip in all_clips], AUTOMATIC)
    pairs = set(zip(groups, map(name_key, all_clips)))
    assert len(pairs) == len(set(groups)) == len({key for _, key in pairs})
