"""Keyed views of data sets inside MMEngine's wrappers."""

import copy

import pytest
import torch
from mmaction.datasets.repeat_aug_dataset import repeat_pseudo_collate
from mmaction.registry import DATA_SAMPLERS, DATASETS
from noise_clips import noise_pipeline, write_clips
from torch.utils.data import DataLoader

from dtkd_mmaction.datasets.dataset_wrappers import (
    base_configs,
    find_sample,
    keyed_outside,
)


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp('wrappers')
    write_clips(root, dict(a=2, b=3), frames=16)
    return root


def plain(clips, split='a', **options):
    return dict(
        type='CheckedVideoDataset',
        ann_file=str(clips / f'{split}.txt'),
        data_prefix=dict(video=str(clips)),
        pipeline=noise_pipeline(8, 24),
        **options,
    )


def keyed(dataset, **options):
    return dict(type='KeyedViewDataset', dataset=dataset, **options)


def repeat(dataset, times=2):
    return dict(type='RepeatDataset', times=times, dataset=dataset)


def concat(*datasets):
    return dict(type='ConcatDataset', datasets=list(datasets))


def test_repetitions_of_a_sample_are_different_views(clips):
    dataset = DATASETS.build(keyed(repeat(plain(clips))))
    assert len(dataset) == 4
    first, again = dataset[1, 0], dataset[3, 0]
    assert not torch.equal(first['inputs'], again['inputs'])
    indices = [
        d['data_samples'].metainfo['sample_idx'] for d in (first, again)
    ]
    assert indices == [1, 3]
    assert torch.equal(dataset[3, 0]['inputs'], again['inputs'])
    for index, holder in ((1, 1), (3, 1), (2, 0)):
        assert find_sample(dataset.dataset, index)[1] == holder


def test_joined_data_sets(clips):
    dataset = DATASETS.build(
        keyed(concat(plain(clips), repeat(plain(clips, 'b'))))
    )
    assert len(dataset) == 8
    for index, (name, inner) in enumerate(
        [('a', 0), ('a', 1)] + [('b', i) for i in (0, 1, 2)] * 2
    ):
        holder, found = find_sample(dataset.dataset, index)
        assert holder.ann_file.endswith(f'{name}.txt') and found == inner
        sample = dataset[index, 5]['data_samples']
        assert sample.metainfo['sample_idx'] == index
        assert sample.metainfo['view'] == 5
        assert int(sample.gt_label) == inner


def test_kept_views_of_a_wrapper(clips, tmp_path):
    options = dict(views=1, kept_in=str(tmp_path))
    folders = {
        DATASETS.build(keyed(dataset, **options)).folder
        for dataset in (
            plain(clips),
            repeat(plain(clips)),
            concat(plain(clips), plain(clips, 'b')),
        )
    }
    assert len(folders) == 3


def test_repeated_augmentation(clips):
    """Lists of clips, all with the key of their sample."""
    config = plain(clips, num_repeats=3)
    config['type'] = 'RepeatAugDataset'
    dataset = DATASETS.build(keyed(config))
    loader = DataLoader(
        dataset,
        2,
        sampler=DATA_SAMPLERS.build(
            dict(type='KeyedViewSampler', dataset=dataset, shuffle=False)
        ),
        collate_fn=repeat_pseudo_collate,
    )
    (batch,) = loader
    (again,) = loader
    indices = [s.metainfo['sample_idx'] for s in batch['data_samples']]
    assert indices == [0, 0, 0, 1, 1, 1]
    for clip, same in zip(batch['inputs'], again['inputs']):
        assert torch.equal(clip, same)
    assert not torch.equal(batch['inputs'][0], batch['inputs'][1])
    with pytest.raises(ValueError, match='kept_in=.* RepeatAugDataset'):
        DATASETS.build(keyed(config, views=1, kept_in='kept'))


@pytest.mark.parametrize(
    'wrap, expected',
    [
        (
            lambda d: repeat(keyed(d, seed=3)),
            lambda d: keyed(repeat(d), seed=3),
        ),
        (
            lambda d: repeat(repeat(keyed(d))),
            lambda d: keyed(repeat(repeat(d))),
        ),
        (
            lambda d: concat(keyed(d, views=2), repeat(keyed(d, views=2))),
            lambda d: keyed(concat(d, repeat(d)), views=2),
        ),
        (lambda d: d, lambda d: d),
        (lambda d: repeat(d), lambda d: repeat(d)),
        (lambda d: concat(d, d), lambda d: concat(d, d)),
        (lambda d: keyed(repeat(d)), lambda d: keyed(repeat(d))),
    ],
)
def test_keyed_outside(wrap, expected):
    leaf = dict(type='VideoDataset', ann_file='a.txt')
    config = wrap(leaf)
    before = copy.deepcopy(config)
    assert keyed_outside(config) == expected(leaf)
    assert config == before
    assert set(map(str, base_configs(config))) == {str(leaf)}


@pytest.mark.parametrize(
    'second', [keyed(dict(type='A'), seed=1), dict(type='A')]
)
def test_joined_data_sets_with_other_options_are_refused(second):
    first = keyed(dict(type='A'), seed=0)
    with pytest.raises(
        ValueError, match=r'train_dataloader\.dataset\.datasets\.1 is .*seed'
    ):
        keyed_outside(concat(first, second))


def test_what_the_sampler_cannot_ask_for_views(clips):
    wrapped = DATASETS.build(repeat(keyed(plain(clips))))
    with pytest.raises(
        TypeError,
        match=r'train_dataloader\.dataset is a RepeatDataset.*Write '
        r"dataset=dict\(type='KeyedViewDataset', "
        r"dataset=dict\(type='RepeatDataset'",
    ):
        DATA_SAMPLERS.build(dict(type='KeyedViewSampler', dataset=wrapped))


def test_a_sample_without_its_view_is_refused(clips):
    """Any sampler of numbers would switch the augmentation off."""
    dataset = DATASETS.build(keyed(plain(clips)))
    with pytest.raises(TypeError, match=r'train_dataloader\.sampler.*Keyed'):
        dataset[1]
    single = DATASETS.build(keyed(plain(clips), views=1))
    assert torch.equal(single[1]['inputs'], single[1, 0]['inputs'])
