import csv
import os.path as osp

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import TRANSFORMS

from dtkd_mmaction.datasets import EpicKitchensDataset

ROOT = osp.dirname(osp.dirname(osp.dirname(__file__)))
FRAMES = 60  # of every video
BITS = 6  # of a frame's number
RATES = dict(P01_101=50.0, P02_01=59.94)
SEGMENTS = [  # video, start, stop, verb, noun
    ('P01_101', '00:00:00.00', '00:00:00.30', 0, 2),
    ('P01_101', '00:00:00.58', '00:00:00.90', 96, 299),
    ('P01_101', '00:00:00.50', '00:00:00.51', 3, 3),  # shorter than a frame
    ('P01_101', '00:00:01.00', '00:00:07.00', 1, 4),  # past the last frame
    ('P02_01', '00:00:00.40', '00:00:00.80', 5, 6),
    ('P02_01', '00:00:00.07', '00:00:00.93', 7, 8),
]
PIPELINE = [
    dict(type='SegmentInit'),
    dict(type='UniformSample', clip_len=4),
    dict(type='DecordDecode'),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
SAMPLERS = [
    dict(type='SampleFrames', clip_len=4, frame_interval=2, num_clips=2),
    dict(type='SampleFrames', clip_len=8, frame_interval=4),
    dict(type='SampleFrames', clip_len=4, target_fps=30),
    dict(type='DenseSampleFrames', clip_len=1, num_clips=4, sample_range=16),
    dict(type='UniformSample', clip_len=8),
]


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    """Two videos whose frames tell their number by bright and dark bars."""
    import cv2

    root = tmp_path_factory.mktemp('EPIC-KITCHENS')
    for name, rate in RATES.items():
        folder = root / name[:3] / 'videos'
        folder.mkdir(parents=True)
        # The container of .MP4 is not told by its name: written as .mp4.
        writer = cv2.VideoWriter(
            str(folder / 'video.mp4'),
            cv2.VideoWriter_fourcc(*'mp4v'),
            rate,
            (16 * BITS, 32),
        )
        for i in range(FRAMES):
            bars = [255 * (i >> bit & 1) for bit in range(BITS)]
            row = np.repeat(np.array(bars, np.uint8), 16)
            writer.write(np.tile(row[None, :, None], (32, 1, 3)))
        writer.release()
        (folder / 'video.mp4').rename(folder / f'{name}.MP4')
    return root


@pytest.fixture
def build(tmp_path, videos):

    def make(
        segments=SEGMENTS, pipeline=PIPELINE, drop=(), root=videos, **options
    ):
        rows = [
            dict(
                narration_id=f'{video}_{i}',
                participant_id=video[:3],
                video_id=video,
                narration_timestamp=start,
                start_timestamp=start,
                stop_timestamp=stop,
                start_frame=-7,  # not to be read
                stop_frame=-7,
                narration='take plate, cup',
                verb='take',
                verb_class=verb,
                noun='plate',
                noun_class=noun,
                all_nouns="['plate', 'cup']",
                all_noun_classes=f'[{noun}, 13]',
            )
            for i, (video, start, stop, verb, noun) in enumerate(segments)
        ]
        path = tmp_path / 'EPIC_100_train.csv'
        with open(path, 'w', newline='') as file:
            if rows:
                names = [name for name in rows[0] if name not in drop]
                writer = csv.DictWriter(file, names, extrasaction='ignore')
                writer.writeheader()
                writer.writerows(rows)
        return EpicKitchensDataset(
            str(path), pipeline, data_prefix=dict(video=str(root)), **options
        )

    return make


def number_of(image):
    """Reads the number of a frame from the image (H, W, 3)."""
    bars = image.reshape(32, BITS, 16, 3).mean(axis=(0, 2, 3)) > 127
    return sum(int(bar) << bit for bit, bar in enumerate(bars))


def seconds(timestamp):
    return float(timestamp[6:])


@pytest.mark.parametrize('index', range(len(SEGMENTS)))
@pytest.mark.parametrize('test_mode', [False, True])
@pytest.mark.parametrize('sampler', SAMPLERS)
def test_frames_lie_in_the_segment(build, sampler, test_mode, index):
    video, start, stop = SEGMENTS[index][:3]
    fps = RATES[video]
    dataset = build()
    steps = [
        dict(type='SegmentInit'),
        dict(sampler, test_mode=test_mode),
        dict(type='DecordDecode'),
    ]
    steps = [TRANSFORMS.build(step) for step in steps]
    # Frames on the screen in the segment, to half a frame.
    earliest = seconds(start) * fps - 0.5
    latest = min(seconds(stop) * fps - 0.5, FRAMES - 1)
    latest = max(latest, earliest + 1)
    results = dataset.get_data_info(index)
    for step in steps:
        results = step(results)
    seen = [number_of(image) for image in results['imgs']]
    assert seen == results['frame_inds'].tolist()
    assert earliest <= min(seen)
    assert max(seen) <= latest


def test_whole_segment_is_reached(build):
    """From its first frame to its last, not only some part of it."""
    sampler = TRANSFORMS.build(dict(type='UniformSample', clip_len=20))
    opener = TRANSFORMS.build(dict(type='SegmentInit'))
    for index, first, last in [(1, 29, 44), (3, 50, 59), (4, 24, 47)]:
        results = opener(build().get_data_info(index))
        seen = set()
        for _ in range(50):
            seen.update(sampler(results)['frame_inds'].tolist())
        assert seen == set(range(first, last + 1))


def test_sample_of_the_pipeline(build):
    sample = build()[1]
    assert sample['inputs'].shape == (1, 3, 4, 32, 96)
    assert sample['data_samples'].gt_label.tolist() == [96, 299]
    assert sample['data_samples'].metainfo['sample_idx'] == 1
    assert sample['data_samples'].metainfo['video_id'] == 'P01_101'


def test_segment_behind_the_end_is_skipped_with_its_time(build, logged):
    late = ('P01_101', '00:01:00.00', '00:01:01.00', 0, 0)
    assert build([late, SEGMENTS[0]])[0]['inputs'].shape[2] == 4
    assert 'ends at 1.20 s, the segment begins at 60.00 s' in logged()
    with pytest.raises(RuntimeError, match=r'P01_101\.MP4 cannot be read'):
        build([late], test_mode=True)[0]


@pytest.mark.parametrize(
    'segment, message',
    [
        (('P01_101', '0', '00:00:01.00', 0, 0), 'line 2: a timestamp'),
        (('P01_101', '00:00:00', '00:00:01', 'a', 0), 'not an integer'),
        (
            ('P01_101', '00:00:00', '00:00:01', 97, 0),
            r'verb_class=97.*0\.\.96',
        ),
        (
            ('P01_101', '00:00:00', '00:00:01', 0, 300),
            r'noun_class=300.*0\.\.299',
        ),
        (('P01_101', '00:00:00', '00:00:01', 0, -1), 'noun_class=-1'),
        (('P01_101', '00:00:02', '00:00:01', 0, 0), 'is before'),
    ],
)
def test_bad_rows(build, segment, message):
    with pytest.raises(
        ValueError, match=rf'train_dataloader.*EPIC_100_train\.csv.*{message}'
    ):
        build([segment])


def test_bad_files(build, tmp_path, videos):
    with pytest.raises(ValueError, match=r"lacks.*\['noun_class'\].*it has"):
        build(drop=['noun_class'])
    with pytest.raises(ValueError, match='is empty'):
        build([])
    with pytest.raises(FileNotFoundError, match=r'ann_file=.*no\.csv.*Get'):
        EpicKitchensDataset('no.csv', PIPELINE)
    with pytest.raises(
        FileNotFoundError,
        match=r'2 of the 2 videos.*P01_101\.MP4.*expected at.*elsewhere',
    ):
        build(root=tmp_path / 'elsewhere')


def test_stock_opening_is_refused(build):
    stock = [dict(type='DecordInit'), *PIPELINE[1:]]
    with pytest.raises(ValueError, match='val_dataloader.*no SegmentInit'):
        build(pipeline=stock, test_mode=True)
    with pytest.raises(KeyError, match='use DecordInit'):
        TRANSFORMS.build(PIPELINE[0])(dict(filename='a.mp4'))


@pytest.mark.parametrize(
    'name, size, test_size',
    [('epic_kitchens', 224, 256), ('epic_kitchens_eval160', 160, 182)],
)
def test_the_config(build, name, size, test_size):
    config = Config.fromfile(f'{ROOT}/configs/_base_/datasets/{name}.py')
    for loader, shape in (
        ('train', (1, 3, 16, 224, 224)),
        ('val', (1, 3, 16, size, size)),
        ('test', (3, 3, 16, test_size, test_size)),
    ):
        dataset = config[f'{loader}_dataloader'].dataset
        dataset = dataset.get('dataset', dataset)
        assert dataset.type == 'EpicKitchensDataset'
        sample = build(
            pipeline=dataset.pipeline,
            test_mode=dataset.get('test_mode', False),
        )[0]
        assert sample['inputs'].shape == shape
