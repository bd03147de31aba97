import numpy as np
import pytest
from probing import group_names, looks_grouped, make_folds


def ucf_names(classes=('Archery', 'Surfing'), groups=10, clips=4):
    return [
        f'{c}/v_{c}_g{g:02d}_c{k:02d}.mp4'
        for c in classes
        for g in range(1, groups + 1)
        for k in range(1, clips + 1)
    ]


def test_groups_are_never_split_and_folds_are_balanced():
    names = ucf_names()
    groups = group_names(names, r'v_(\w+_g\d+)_')
    labels = np.repeat([0, 1], 40)
    folds = make_folds(groups, labels, 5)
    for group in set(groups):
        members = [fold for fold, g in zip(folds, groups) if g == group]
        assert len(members) == 4 and len(set(members)) == 1
    for fold in range(5):
        assert np.bincount(labels[folds == fold]).tolist() == [8, 8]


def test_unequal_groups():
    """Other groups keep away from a fold that has enough of their class."""
    groups = ['a'] * 30 + [f'{i}' for i in range(30)]
    labels = np.array([0] * 30 + [0, 1] * 15)
    folds = make_folds(groups, labels, 3)
    assert set(folds[:30]) == {folds[0]}
    others = folds[30:]
    assert sorted(np.bincount(others[labels[30:] == 0])) == [0, 7, 8]
    assert np.bincount(others[labels[30:] == 1]).tolist() == [5, 5, 5]


def test_fewer_groups_than_folds():
    assert set(make_folds(['a', 'b', 'a'], [0, 1, 1], 5)) == {0, 1}


def test_group_names():
    names = ['x/v_g01_c01.mp4', 'x/v_g02_c01.mp4']
    assert group_names(names, r'_g(\d+)_') == ['01', '02']
    assert group_names(names, r'g\d+') == ['g01', 'g02']
    assert group_names(names, r'(v)_g(\d+)') == ['v/01', 'v/02']


@pytest.mark.parametrize(
    'pattern, message',
    [
        ('(', 'is not a regular expression'),
        (r'_h(\d+)_', r'does not match 80 of 80 clips, such as .*Archery'),
        (r'v_()', 'finds one group only'),
    ],
)
def test_wrong_patterns(pattern, message):
    with pytest.raises(ValueError, match=message):
        group_names(ucf_names(), pattern)


@pytest.mark.parametrize(
    'names, grouped',
    [
        (ucf_names(), True),
        ([f'walk/{i:06d}.mp4' for i in range(50)], False),
        ([f'{c}/{c}_{i}.mp4' for c in 'ab' for i in range(50)], False),
        # Kinetics: name of the video, start and end
        ([f'v{7 * i}x_{i:06d}_{i + 10:06d}.mp4' for i in range(50)], False),
    ],
)
def test_looks_grouped(names, grouped):
    assert looks_grouped(names, num_classes=2) == grouped
