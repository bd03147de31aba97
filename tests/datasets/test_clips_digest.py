"""The digest of a data set's clips changes with the clips alone."""

import os
import shutil

import cv2
import numpy as np
import pytest
from mmaction.datasets import RawframeDataset, VideoDataset
from mmaction.registry import DATASETS
from mmengine.registry import init_default_scope

from dtkd_mmaction.datasets import clips_digest as module
from dtkd_mmaction.datasets.clips_digest import (
    clips_digest,
    clips_digest_v1,
    decoder_versions,
)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def videos(tmp_path):
    """300 files, more than the 256 that were once looked at."""
    for i in range(300):
        write(tmp_path / f'videos/class_{i % 3}/{i}.mp4', bytes([i % 256]) * 9)
    return tmp_path / 'videos'


def video_set(folder, prefix=None, names=None):
    names = names or [f'class_{i % 3}/{i}.mp4' for i in range(300)]
    ann_file = folder.parent / 'videos.txt'
    ann_file.write_text(
        '\n'.join(f'{name} {i % 3}' for i, name in enumerate(names))
    )
    prefix = dict(video=str(folder)) if prefix is None else prefix
    return VideoDataset(str(ann_file), [], data_prefix=prefix)


def test_every_clip_counts(videos):
    before = clips_digest(video_set(videos))
    assert clips_digest(video_set(videos)) == before
    path = videos / 'class_1/151.mp4'
    content = path.read_bytes()
    write(path, content + b'x')
    assert clips_digest(video_set(videos)) != before
    # the same size
    write(path, content[:-1] + b'x')
    assert clips_digest(video_set(videos)) != before
    # the same content, written later
    write(path, content)
    os.utime(path, (0, 0))
    assert clips_digest(video_set(videos)) == before


def test_a_long_clip_encoded_anew(videos):
    path = videos / 'class_0/0.mp4'
    content = np.random.default_rng(0).bytes(50_000)
    digests = set()
    for place in (0, 25_000, 49_999):
        changed = bytearray(content)
        changed[place] ^= 1
        write(path, bytes(changed))
        digests.add(clips_digest(video_set(videos)))
    assert len(digests) == 3


def test_sizes_of_all_and_contents_of_some(videos, monkeypatch):
    monkeypatch.setattr(module, 'MAX_CONTENTS', 100)
    before = clips_digest(video_set(videos))
    write(videos / 'class_1/151.mp4', b'y' * 9)  # the same size
    assert clips_digest(video_set(videos)) == before
    write(videos / 'class_1/151.mp4', b'y' * 8)
    assert clips_digest(video_set(videos)) != before


def test_a_copy_elsewhere_is_the_same(videos, tmp_path):
    before = clips_digest(video_set(videos))
    copy = tmp_path / 'elsewhere' / 'deep'
    shutil.copytree(videos, copy)
    assert clips_digest(video_set(copy)) == before
    # absolute paths in the list, no prefix
    names = [str(copy / f'class_{i % 3}/{i}.mp4') for i in range(300)]
    assert clips_digest(video_set(copy, dict(video=''), names)) == before


def test_labels_and_order_count(videos):
    names = [f'class_{i % 3}/{i}.mp4' for i in range(300)]
    swapped = [*names[1::-1], *names[2:]]
    assert clips_digest(video_set(videos)) != clips_digest(
        video_set(videos, names=swapped)
    )


def test_missing_files_and_pipes(videos):
    before = clips_digest(video_set(videos))
    (videos / 'class_1/151.mp4').unlink()
    missing = clips_digest(video_set(videos))
    os.mkfifo(videos / 'class_1/151.mp4')
    assert missing == clips_digest(video_set(videos)) != before


@pytest.fixture
def frames(tmp_path):
    """Frames of four clips, and of another modality in the same folders."""
    generator = np.random.default_rng(0)
    for clip in range(4):
        folder = tmp_path / f'frames/class/{clip}'
        folder.mkdir(parents=True)
        for frame in range(12):
            picture = generator.integers(0, 255, (24, 32, 3), np.uint8)
            path = str(folder / f'img_{frame + 1:05}.jpg')
            cv2.imwrite(path, picture)
            write(folder / f'flow_x_{frame + 1:05}.jpg', b'flow')
    lines = [f'class/{clip} 12 {clip % 2}' for clip in range(4)]
    (tmp_path / 'frames.txt').write_text('\n'.join(lines))
    return tmp_path / 'frames'


def frame_set(folder, ann_file, **options):
    return RawframeDataset(
        str(ann_file), [], data_prefix=dict(img=str(folder)), **options
    )


def extract_anew(folder, quality=60):
    for path in sorted(folder.glob('img_*.jpg')):
        picture = cv2.imread(str(path))
        cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, quality])


def test_frames_extracted_anew_in_place(frames, tmp_path):
    ann_file = tmp_path / 'frames.txt'
    before = clips_digest(frame_set(frames, ann_file))
    assert clips_digest(frame_set(frames, ann_file)) == before
    # The other modality is not read.
    write(frames / 'class/2/flow_x_00001.jpg', b'another flow')
    assert clips_digest(frame_set(frames, ann_file)) == before
    extract_anew(frames / 'class/2')
    assert clips_digest(frame_set(frames, ann_file)) != before


def test_frames_in_a_copy_are_the_same(frames, tmp_path):
    ann_file = tmp_path / 'frames.txt'
    before = clips_digest(frame_set(frames, ann_file))
    shutil.copytree(frames, tmp_path / 'copy/of')
    assert clips_digest(frame_set(tmp_path / 'copy/of', ann_file)) == before


def test_flow_has_a_frame_for_each_direction(frames, tmp_path):
    options = dict(modality='Flow', filename_tmpl='flow_{}_{:05d}.jpg')
    ann_file = tmp_path / 'frames.txt'
    before = clips_digest(frame_set(frames, ann_file, **options))
    write(frames / 'class/3/flow_x_00012.jpg', b'other')
    after = clips_digest(frame_set(frames, ann_file, **options))
    assert after != before


def test_few_frames_of_many_clips(frames, tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'MAX_FRAMES', 8)
    ann_file = tmp_path / 'frames.txt'
    before = clips_digest(frame_set(frames, ann_file))
    write(frames / 'class/1/img_00003.jpg', b'not looked at')
    assert clips_digest(frame_set(frames, ann_file)) == before
    write(frames / 'class/1/img_00012.jpg', b'the last one')
    assert clips_digest(frame_set(frames, ann_file)) != before


def test_kept_views_of_frames(frames, tmp_path):
    """Another folder for new frames, the same one for a copy."""
    init_default_scope('mmaction')

    def kept(folder):
        return DATASETS.build(
            dict(
                type='KeyedViewDataset',
                views=1,
                kept_in=str(tmp_path / 'kept'),
                dataset=dict(
                    type='RawframeDataset',
                    ann_file=str(tmp_path / 'frames.txt'),
                    data_prefix=dict(img=str(folder)),
                    pipeline=[
                        dict(type='SampleFrames', clip_len=4),
                        dict(type='RawFrameDecode'),
                        dict(type='FormatShape', input_format='NCTHW'),
                        dict(type='PackActionInputs'),
                    ],
                ),
            )
        )

    before = kept(frames)
    shown = before[0, 0]['inputs'].clone()
    shutil.copytree(frames, tmp_path / 'copy')
    copy = kept(tmp_path / 'copy')
    assert copy.folder == before.folder
    assert (copy[0, 0]['inputs'] == shown).all()
    extract_anew(frames / 'class/0', quality=20)
    assert kept(frames).folder != before.folder
    assert (kept(frames)[0, 0]['inputs'] != shown).any()


def test_versions_of_the_decoders_in_use():
    assert decoder_versions([dict(type='DecordInit')]).keys() == {'decord'}
    pipeline = [dict(type='RawFrameDecode'), dict(type='Resize')]
    assert decoder_versions(pipeline) == {'cv2': cv2.__version__}
    assert decoder_versions([dict(type='UsersOwn'), object()]) == {}


def test_digest_of_old_caches(tmp_path):
    """The digest that version 0.1.0 computed for this list."""
    write(tmp_path / 'videos/a.mp4', b'123')
    dataset = video_set(tmp_path / 'videos', names=['a.mp4'])
    assert clips_digest_v1(dataset) == OLD


OLD = '0b2f6ce5430c377084bf21aaae74377cc675d05b68343672a975aa7c0b129f01'
