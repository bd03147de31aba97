import shutil

import numpy as np
import pytest
from torch.utils.data import DataLoader

from dtkd_mmaction.datasets import CheckedVideoDataset

PIPELINE = [
    dict(type='DecordInit'),
    dict(type='SampleFrames', clip_len=2, frame_interval=1),
    dict(type='DecordDecode'),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]


@pytest.fixture(scope='module')
def good_clip(tmp_path_factory):
    import cv2

    path = str(tmp_path_factory.mktemp('clip') / 'good.mp4')
    writer = cv2.VideoWriter(
        path, cv2.VideoWriter_fourcc(*'mp4v'), 10, (32, 32)
    )
    for i in range(6):
        writer.write(np.full((32, 32, 3), 40 * i, np.uint8))
    writer.release()
    return path


@pytest.fixture
def build(tmp_path, good_clip):

    def make(good=4, bad=1, **options):
        lines = []
        for i in range(good + bad):
            name = f'{"good" if i < good else "bad"}_{i}.mp4'
            lines.append(f'{name} {i % 2}')
            if i < good:
                shutil.copy(good_clip, tmp_path / name)
            else:
                (tmp_path / name).write_bytes(b'no video at all')
        (tmp_path / 'list.txt').write_text('\n'.join(lines))
        return CheckedVideoDataset(
            str(tmp_path / 'list.txt'),
            PIPELINE,
            data_prefix=dict(video=str(tmp_path)),
            **options,
        )

    return make


def test_reads_like_the_stock_dataset(build):
    dataset = build(bad=0)
    assert len(dataset) == 4
    assert dataset[1]['inputs'].shape == (1, 3, 2, 32, 32)
    assert dataset[1]['data_samples'].gt_label.tolist() == [1]
    assert dataset[1]['data_samples'].metainfo['sample_idx'] == 1


@pytest.mark.parametrize(
    'test_mode, key', [(False, 'train_dataloader'), (True, 'val_dataloader')]
)
def test_missing_list(tmp_path, test_mode, key):
    with pytest.raises(
        FileNotFoundError,
        match=rf'{key}: ann_file=.*no\.txt.*does not exist',
    ):
        CheckedVideoDataset(
            str(tmp_path / 'no.txt'), PIPELINE, test_mode=test_mode
        )


@pytest.mark.parametrize(
    'text, message',
    [
        ('', 'is empty'),
        ('a b.mp4 0\n', 'path label'),
        ('a.mp4 zero\n', 'path label'),
    ],
)
def test_bad_list(tmp_path, text, message):
    (tmp_path / 'list.txt').write_text(text)
    with pytest.raises(
        ValueError, match=rf'train_dataloader.*list\.txt.*{message}'
    ):
        CheckedVideoDataset(str(tmp_path / 'list.txt'), PIPELINE)


@pytest.mark.parametrize('workers', [0, 2])
def test_unreadable_clip_is_skipped_with_its_name(build, logged, workers):
    dataset = build(max_unreadable=1)
    loader = DataLoader(
        dataset, batch_size=None, num_workers=workers, collate_fn=lambda x: x
    )
    for _ in range(2):  # it counts once, however often it is met
        assert len([x['inputs'] for x in loader]) == 5
    said = logged()
    assert said.count('bad_4.mp4 cannot be read and is skipped') == 1


@pytest.mark.parametrize('workers', [0, 2])
def test_the_limit_stops_the_run(build, workers):
    loader = DataLoader(
        build(good=4, bad=3, max_unreadable=2),
        batch_size=None,
        num_workers=workers,
        collate_fn=lambda x: x,
    )
    with pytest.raises(
        RuntimeError, match=r'max_unreadable=2.*bad_4.*bad_5.*bad_6'
    ):
        list(loader)


def test_a_test_does_not_skip(build):
    with pytest.raises(RuntimeError, match=r'bad_4\.mp4 cannot be read'):
        build(test_mode=True)[4]
