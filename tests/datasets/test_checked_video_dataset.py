import os
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


def write(folder, text, encoding='utf-8'):
    (folder / 'list.txt').write_bytes(text.encode(encoding))
    return str(folder / 'list.txt')


@pytest.mark.parametrize(
    'text, messages',
    [
        ('', ['is empty']),
        ('\n\n', ['is empty']),
        ('a b.mp4 0\n', ['line 1', '3 fields', 'path label', 'delimiter']),
        ('a.mp4 zero\n', ['line 1', "'zero'", 'path label']),
        ('a.mp4 0\nb.mp4 1.0\n', ['line 2', "'1.0'", 'integer']),
        ('a.mp4 0\n\nb.mp4\n', ['line 3', 'has no label', 'path label']),
        ('a.mp4,0\nb.mp4,1\n', ['line 1', "delimiter=','"]),
        ('a.mp4\t0\n', ['line 1', "delimiter='\\t'"]),
        ('a.mp4 -2\n', ['line 1', 'label -2', 'negative']),
        ('a.mp4 -100\n', ['line 1', 'label -100']),
        (f'a.mp4 {10**12}\n', ['line 1', 'no class number']),
    ],
)
def test_bad_list(tmp_path, text, messages):
    with pytest.raises(ValueError) as caught:
        CheckedVideoDataset(write(tmp_path, text), PIPELINE)
    for message in ['train_dataloader', 'list.txt', *messages]:
        assert message in str(caught.value)


def test_a_header_line_is_named(tmp_path):
    path = write(tmp_path, 'path,label\na.mp4,0\n')
    with pytest.raises(ValueError, match='line 1.*Remove the header line'):
        CheckedVideoDataset(path, PIPELINE, delimiter=',')


def test_all_bad_lines_are_counted(tmp_path):
    path = write(tmp_path, 'a.mp4\n' * 12)
    with pytest.raises(ValueError, match='line 5 .*7 more'):
        CheckedVideoDataset(path, PIPELINE)


def test_other_encodings(tmp_path):
    for encoding in ('utf-16', 'latin-1'):
        path = write(tmp_path, 'é.mp4 0\n', encoding)
        with pytest.raises(ValueError, match='list.txt.*UTF-8'):
            CheckedVideoDataset(path, PIPELINE)


@pytest.mark.parametrize('newline', ['\n', '\r\n'])
def test_marks_and_blank_lines_are_no_clips(tmp_path, newline):
    lines = ['\ufeffa.mp4 0', '', 'b.mp4 1', '  ', '']
    dataset = CheckedVideoDataset(
        write(tmp_path, newline.join(lines)),
        PIPELINE,
        data_prefix=dict(video='clips'),
    )
    found = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [(x['filename'], x['label']) for x in found] == [
        ('clips/a.mp4', 0),
        ('clips/b.mp4', 1),
    ]


def test_unlabelled_clips_belong_to_training_lists_alone(tmp_path):
    path = write(tmp_path, 'a.mp4 0\nb.mp4 -1\n')
    dataset = CheckedVideoDataset(path, PIPELINE)
    assert dataset.get_data_info(1)['label'] == -1
    with pytest.raises(
        ValueError, match='val_dataloader.*line 2: label -1.*training list'
    ):
        CheckedVideoDataset(path, PIPELINE, test_mode=True)


def test_labels_are_compared_with_a_class_count(tmp_path):
    path = write(tmp_path, 'a.mp4 0\nb.mp4 7\n')
    with pytest.raises(ValueError, match='line 2: label 7.*has 6 classes'):
        CheckedVideoDataset(path, PIPELINE, num_classes=6)


def test_multi_class(tmp_path):
    path = write(tmp_path, 'a.mp4 0 2\nb.mp4 1\n')
    dataset = CheckedVideoDataset(
        path, PIPELINE, multi_class=True, num_classes=3
    )
    assert dataset.get_data_info(0)['label'].tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match='dataset.num_classes is missing'):
        CheckedVideoDataset(path, PIPELINE, multi_class=True)


@pytest.mark.parametrize(
    'make, message', [(os.mkfifo, 'is a pipe'), (os.mkdir, 'is a folder')]
)
def test_a_list_that_is_no_file(tmp_path, make, message):
    make(tmp_path / 'list.txt')
    with pytest.raises(FileNotFoundError, match=rf'list\.txt.*{message}'):
        CheckedVideoDataset(str(tmp_path / 'list.txt'), PIPELINE)


def test_a_pipe_among_the_clips_does_not_hang(build, tmp_path, logged):
    dataset = build(bad=0)
    os.remove(tmp_path / 'good_1.mp4')
    os.mkfifo(tmp_path / 'good_1.mp4')
    assert dataset[1] is not None  # another clip in its place
    assert 'good_1.mp4 is no regular file' in logged()


def test_the_limit_is_relative_too(build):
    """10 of 12 clips are damaged: fewer than max_unreadable."""
    dataset = build(good=2, bad=10)
    with pytest.raises(
        RuntimeError, match=r'3 of the 12 clips.*max_unreadable_share=0\.2'
    ):
        for index in range(len(dataset)):
            dataset.prepare_data(index)


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
        build(good=4, bad=3, max_unreadable=2, max_unreadable_share=1.0),
        batch_size=None,
        num_workers=workers,
        collate_fn=lambda x: x,
    )
    with pytest.raises(
        RuntimeError, match=r'max_unreadable=2 .*bad_4.*bad_5.*bad_6'
    ):
        list(loader)


def test_a_test_does_not_skip(build):
    with pytest.raises(RuntimeError, match=r'bad_4\.mp4 cannot be read'):
        build(test_mode=True)[4]
