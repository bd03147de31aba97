"""A view is a function of (seed, sample, view), and of nothing else."""

import random
import shutil

import numpy as np
import pytest
import torch
from mmaction.registry import DATA_SAMPLERS, DATASETS
from mmengine.dataset import pseudo_collate
from noise_clips import noise_pipeline, write_clips
from torch.utils.data import DataLoader, Subset

from dtkd_mmaction.datasets.keyed_views import (
    keyed_generators,
    seed_generators,
)


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp('keyed')
    write_clips(root, dict(clip=6), frames=16)
    (root / 'bad.mp4').write_bytes(b'no video')
    return root


def build(clips, names='abcdef', **options):
    (clips / f'{names}.txt').write_text(
        '\n'.join(
            f'{"bad" if n == "x" else f"clip_{ord(n) - 97}"}.mp4 0'
            for n in names
        )
    )
    return DATASETS.build(
        dict(
            type='KeyedViewDataset',
            dataset=dict(
                type='CheckedVideoDataset',
                ann_file=str(clips / f'{names}.txt'),
                data_prefix=dict(video=str(clips)),
                pipeline=noise_pipeline(8, 24),
            ),
            **options,
        )
    )


def loader(dataset, epoch=0, batch_size=2, **options):
    sampler = DATA_SAMPLERS.build(
        dict(type='KeyedViewSampler', dataset=dataset, seed=3)
    )
    sampler.set_epoch(epoch)
    return DataLoader(
        dataset,
        batch_size,
        sampler=sampler,
        collate_fn=pseudo_collate,
        **options,
    )


def views_of(batches):
    """(sample, view) -> clip, of everything a loader gave."""
    return {
        (sample.metainfo['sample_idx'], sample.metainfo['view']): clip
        for batch in batches
        for clip, sample in zip(batch['inputs'], batch['data_samples'])
    }


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) for key in first
    )


def test_the_same_whatever_was_drawn_before(clips):
    dataset = build(clips)
    wanted = dataset[2, 5]['inputs']
    np.random.seed(7), random.seed(8), torch.manual_seed(9)
    dataset[3, 5]
    assert torch.equal(dataset[2, 5]['inputs'], wanted)
    assert torch.equal(build(clips)[2, 5]['inputs'], wanted)


def test_samples_views_and_seeds_differ(clips):
    dataset = build(clips)
    drawn = [dataset[i, v]['inputs'] for i in (0, 1) for v in range(4)]
    drawn += [build(clips, seed=1)[0, 0]['inputs']]
    for i, first in enumerate(drawn):
        assert not any(torch.equal(first, other) for other in drawn[:i])


@pytest.mark.parametrize('workers', [1, 2])
def test_no_number_of_workers_changes_a_view(clips, workers):
    dataset = build(clips)
    alone = views_of(loader(dataset, epoch=3))
    assert len(alone) == 6
    assert same(alone, views_of(loader(dataset, epoch=3, num_workers=workers)))


def test_epochs_are_views_and_cycle(clips):
    endless, cycling = build(clips), build(clips, views=2)
    for epoch in range(3):
        keys = views_of(loader(endless, epoch))
        assert {view for _, view in keys} == {epoch}
        keys = views_of(loader(cycling, epoch))
        assert {view for _, view in keys} == {epoch % 2}
    assert torch.equal(cycling[1, 4]['inputs'], endless[1, 0]['inputs'])


def test_the_generators_are_put_back(clips):
    dataset = build(clips)

    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    seed_generators([1, 2])
    wanted = draw()
    seed_generators([1, 2])
    dataset[0, 0]
    assert draw() == wanted
    with pytest.raises(KeyError), keyed_generators([4]):
        raise KeyError
    assert draw() != wanted


def test_an_unreadable_clip_is_replaced_by_a_view_of_another(clips):
    """Which is the other's own view, so that a teacher knows it too."""
    dataset = build(clips, 'axbxc')
    data = dataset[1, 2]
    other = data['data_samples'].metainfo['sample_idx']
    assert other in (0, 2, 4)
    assert torch.equal(data['inputs'], dataset[other, 2]['inputs'])
    again = build(clips, 'axbxc')[1, 2]['data_samples']
    assert again.metainfo['sample_idx'] == other


def test_no_readable_clip_ends_the_run(clips):
    dataset = build(clips, 'xx')
    with pytest.raises(RuntimeError, match='2 of the 2 clips'):
        dataset[0, 0]


def test_the_sampler_skips_once(clips):
    sampler = loader(build(clips)).sampler
    whole = list(sampler)
    sampler.skip = 4
    assert list(sampler) == whole[4:]
    assert list(sampler) == whole
    assert len(sampler) == 6


def test_kept_views_are_the_drawn_ones(clips, tmp_path):
    fresh = build(clips, 'abx', views=2)
    given = set()
    for _ in range(2):  # first drawn, then read
        kept = build(clips, 'abx', views=2, kept_in=str(tmp_path))
        for key in ((0, 0), (1, 1), (2, 1)):
            drawn, wanted = kept[key], fresh[key]
            assert torch.equal(drawn['inputs'], wanted['inputs'])
            ours, theirs = (d['data_samples'] for d in (drawn, wanted))
            assert torch.equal(ours.gt_label, theirs.gt_label)
            assert ours.metainfo == theirs.metainfo
            given.add((ours.metainfo['view'], ours.metainfo['sample_idx']))
    # What is kept for the unreadable clip is the other's view.
    assert given == {
        (int(p.parent.name[-3:]), int(p.stem))
        for p in tmp_path.glob('*/view_*/*')
    }
    # Nothing is decoded any more.
    kept.dataset.pipeline = None
    assert torch.equal(kept[1, 1]['inputs'], fresh[1, 1]['inputs'])


def test_a_damaged_view_is_drawn_again(clips, tmp_path):
    options = dict(views=2, kept_in=str(tmp_path))
    wanted = build(clips, 'ab', **options)[1, 1]['inputs']
    (path,) = tmp_path.glob('*/view_001/000001.npz')
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    kept = build(clips, 'ab', **options)
    assert torch.equal(kept[1, 1]['inputs'], wanted)
    assert path.read_bytes() == whole


def test_other_views_are_kept_apart(clips, tmp_path):
    options = dict(views=2, kept_in=str(tmp_path))
    folders = {
        build(clips, **options).folder,
        build(clips, seed=1, **options).folder,
        build(clips, 'abc', **options).folder,
    }
    assert len(folders) == 3
    with pytest.raises(ValueError, match='kept_in=.* needs views'):
        build(clips, kept_in=str(tmp_path))


def test_a_copy_has_the_same_views_another_encoding_has_not(clips, tmp_path):
    options = dict(names='abx', views=2, kept_in=str(tmp_path / 'views'))
    copy = tmp_path / 'copy'
    shutil.copytree(clips, copy)
    folder = build(clips, **options).folder
    assert build(copy, **options).folder == folder
    with open(copy / 'clip_1.mp4', 'ab') as file:
        file.write(b'0')
    assert build(copy, **options).folder != folder


def test_a_dumped_config_finds_its_views(clips, tmp_path):
    """MMEngine sorts keys when it dumps a config."""
    dataset = build(clips).dataset
    pipeline = noise_pipeline(8, 24)
    folders = set()
    for order in (sorted, reversed):
        config = dict(
            type='CheckedVideoDataset',
            ann_file=dataset.ann_file,
            data_prefix=dict(video=str(clips)),
            pipeline=[
                {key: t[key] for key in order(list(t))} for t in pipeline
            ],
        )
        kept = DATASETS.build(
            dict(
                type='KeyedViewDataset',
                views=2,
                kept_in=str(tmp_path),
                dataset=config,
            )
        )
        folders.add(kept.folder)
    assert len(folders) == 1


def test_bad_options(clips):
    with pytest.raises(ValueError, match=r'views=0: give the number'):
        build(clips, views=0)
    with pytest.raises(TypeError, match='found a Subset'):
        DATASETS.build(
            dict(
                type='KeyedViewDataset',
                dataset=Subset(build(clips).dataset, [0]),
            )
        )
