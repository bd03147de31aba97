"""Frames that are the right ones, where DecordDecode returns others."""

import shutil
from pathlib import Path

import decord
import numpy as np
import pytest
from mmengine.registry import TRANSFORMS
from numbered_clips import (
    AWKWARD,
    RIGHT,
    WRONG,
    in_order,
    number_of,
    numbers_of,
    write_clip,
)

from dtkd_mmaction.datasets import CheckedVideoDataset
from dtkd_mmaction.datasets.transforms import frame_exact_decode as module
from dtkd_mmaction.datasets.transforms.frame_exact_decode import read_in_order

WANTED = np.arange(22, 54, 4)


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    """The path of a clip of a named encoding."""
    folder = tmp_path_factory.mktemp('clips')
    known = {**WRONG, **RIGHT, **AWKWARD}

    def path(name):
        if not (folder / name).exists():
            codec, options, *rest = known[name]
            write_clip(folder / name, codec, options, **dict(*rest))
        return str(folder / name)

    return path


def decode(path, transform, wanted=WANTED, **init):
    results = dict(filename=path, frame_inds=np.array(wanted))
    for step in (dict(type='DecordInit', **init), dict(type=transform)):
        results = TRANSFORMS.build(step)(results)
    return results


@pytest.mark.parametrize('name', WRONG)
@pytest.mark.parametrize('num_threads', [1, 0])
def test_right_where_the_stock_transform_is_wrong(clips, name, num_threads):
    path = clips(name)
    stock = decode(path, 'DecordDecode', num_threads=num_threads)
    assert numbers_of(stock['imgs']) != WANTED.tolist()
    exact = decode(path, 'FrameExactDecode', num_threads=num_threads)
    truth = in_order(path)
    for number, image in zip(WANTED, exact['imgs']):
        assert np.abs(image.astype(int) - truth[number]).mean() < 0.5


@pytest.mark.parametrize('name', ['h264_b_frames.avi', 'h264_open_gop.mp4'])
def test_the_frames_say_so_themselves(clips, name):
    """Not only PyAV: the numbers that were drawn into them."""
    exact = decode(clips(name), 'FrameExactDecode')
    assert numbers_of(exact['imgs']) == WANTED.tolist()


@pytest.mark.parametrize('name', RIGHT)
def test_the_same_where_the_stock_transform_is_right(clips, name):
    stock = decode(clips(name), 'DecordDecode')
    exact = decode(clips(name), 'FrameExactDecode')
    assert stock.keys() == exact.keys()
    assert np.array_equal(np.stack(stock['imgs']), np.stack(exact['imgs']))
    for key in ('original_shape', 'img_shape', 'video_reader'):
        assert stock[key] == exact[key]


@pytest.mark.parametrize('name', AWKWARD)
def test_awkward_clips(clips, name):
    path = clips(name)
    truth = in_order(path)
    wanted = np.arange(len(truth))[:: -len(truth) // 7 or 1]
    exact = decode(path, 'FrameExactDecode', wanted)
    assert exact['img_shape'] == truth[0].shape[:2]
    for number, image in zip(wanted, exact['imgs']):
        assert np.abs(image.astype(int) - truth[number]).mean() < 0.5


def test_a_seek_to_a_key_frame_is_no_way_out(clips):
    """Why everything is read from the first frame on."""
    reader = decord.VideoReader(clips('h264_b_frames.avi'))
    key_frame = reader.get_key_indices()[2]
    reader.seek(key_frame)
    assert number_of(reader.next().asnumpy()) != key_frame


def test_any_order_repetition_and_from_the_end(clips):
    wanted = [40, 3, 3, -1, 17, 40]
    images = decode(clips('h264_b_frames.avi'), 'FrameExactDecode', wanted)[
        'imgs'
    ]
    assert numbers_of(images) == [40, 3, 3, 59, 17, 40]


def test_a_repeated_frame_is_flipped_once(clips):
    """Stock Flip works in place: twice on one array would undo it."""
    results = decode(clips('h264_b_frames.avi'), 'FrameExactDecode', [5, 5])
    before = results['imgs'][0].copy()
    results['modality'] = 'RGB'
    flipped = TRANSFORMS.build(dict(type='Flip', flip_ratio=1.0))(results)
    for image in flipped['imgs']:
        assert np.array_equal(image, before[:, ::-1])


def test_a_reader_that_was_used_before(clips):
    reader = decord.VideoReader(clips('mpeg4_b_frames.avi'))
    truth = read_in_order(reader, np.array([7, 31]))
    reader.get_batch([50, 54])
    again = read_in_order(reader, np.array([7, 31]))
    assert np.array_equal(np.stack(truth), np.stack(again))


@pytest.mark.parametrize('wanted', [[3, 60], [-61, 3]])
def test_outside_of_the_video(clips, wanted):
    path = clips('h264_b_frames.mp4')
    with pytest.raises(IndexError):
        decode(path, 'DecordDecode', wanted)
    outside = next(i for i in wanted if i != 3)
    with pytest.raises(IndexError, match=rf'\[{outside}\].* of 60 frames'):
        decode(path, 'FrameExactDecode', wanted)


class FakeReader:
    """Ten frames counted, eight delivered."""

    def __init__(self):
        self.kept = []

    def __len__(self):
        return 10

    def seek(self, position):
        self.position = position - 1

    def next(self):
        self.position += 1
        if self.position == 8:
            raise StopIteration
        return self

    def asnumpy(self):
        self.kept.append(self.position)
        return np.full((2, 2, 3), self.position, np.uint8)


def test_only_wanted_frames_are_kept():
    reader = FakeReader()
    images = read_in_order(reader, np.array([6, 2]))
    assert [int(image[0, 0, 0]) for image in images] == [6, 2]
    assert reader.kept == [2, 6]


def test_fewer_frames_than_counted():
    with pytest.raises(RuntimeError, match='counted 10.* ends after 8'):
        read_in_order(FakeReader(), np.array([1, 9]))


def test_a_long_read_is_told_once(clips, logged, monkeypatch):
    monkeypatch.setattr(module, 'LONG_READ', 50)
    transform = TRANSFORMS.build(dict(type='FrameExactDecode'))
    path = clips('h264_b_frames.mp4')
    for wanted in ([49], [12, 50], [13, 51]):
        transform(
            dict(
                video_reader=decord.VideoReader(path),
                frame_inds=np.array(wanted),
            )
        )
    assert logged().count('FrameExactDecode decoded') == 1
    assert 'decoded 51 frames to get 2' in logged()


def build_dataset(tmp_path, clips, delimiter=' ', clip_len=6, **options):
    """A clip that DecordDecode reads wrongly, and one that is cut off."""
    good = 'a good clip.avi' if delimiter == ',' else 'good.avi'
    shutil.copy(clips('h264_b_frames.avi'), tmp_path / good)
    data = Path(clips('mjpeg.avi')).read_bytes()
    (tmp_path / 'cut.avi').write_bytes(data[: len(data) // 2])
    (tmp_path / 'list.txt').write_text(
        f'{good}{delimiter}1\ncut.avi{delimiter}0\n'
    )
    return CheckedVideoDataset(
        str(tmp_path / 'list.txt'),
        [
            dict(type='DecordInit'),
            dict(type='SampleFrames', clip_len=clip_len, frame_interval=1),
            dict(type='FrameExactDecode'),
            dict(type='FormatShape', input_format='NCTHW'),
            dict(type='PackActionInputs'),
        ],
        data_prefix=dict(video=str(tmp_path)),
        delimiter=delimiter,
        **options,
    )


@pytest.mark.parametrize('delimiter', [' ', ','])
def test_in_a_pipeline(tmp_path, clips, delimiter):
    dataset = build_dataset(tmp_path, clips, delimiter)
    for _ in range(10):
        frames = dataset[0]['inputs'][0].permute(1, 2, 3, 0).numpy()
        numbers = numbers_of(frames)
        assert numbers == list(range(numbers[0], numbers[0] + 6))


def test_an_unreadable_clip_is_one_for_the_data_set(tmp_path, clips, logged):
    """It opens, and fails when its last frame is decoded."""
    training = build_dataset(tmp_path, clips, clip_len=40)
    assert training[1]['data_samples'].gt_label.item() == 1
    assert 'cut.avi cannot be read and is skipped' in logged()
    test = build_dataset(tmp_path, clips, clip_len=40, test_mode=True)
    with pytest.raises(RuntimeError, match='cut.avi cannot be read'):
        test[1]


def test_inside_a_segment(clips):
    results = dict(filename=clips('h264_b_frames.avi'), segment=(1.2, 2.0))
    for step in (
        dict(type='SegmentInit'),
        dict(type='UniformSample', clip_len=4),
        dict(type='FrameExactDecode'),
    ):
        results = TRANSFORMS.build(step)(results)
    numbers = numbers_of(results['imgs'])
    assert numbers == results['frame_inds'].tolist()
    assert 30 <= min(numbers) and max(numbers) < 50
