"""The new clips hold the frames of the old ones, and decord reads them."""

import os
import subprocess
import sys
from pathlib import Path

import decord
import numpy as np
import pytest
import reencode_clips as tool
from av.video.frame import PictureType
from check_clips import check_clip
from numbered_clips import (
    AWKWARD,
    H264,
    WRONG,
    av,
    in_order,
    numbers_of,
    write_clip,
)

ROOT = Path(__file__).resolve().parents[2]

ENCODING = tool.Encoding(short_side=256, gop=16, crf=10)


def reencode(source, out, encoding=ENCODING):
    result = tool.reencode_checked(tool.Job(str(source), str(out), encoding))
    os.replace(f'{out}{tool.PART}', out)
    return result, decord.VideoReader(str(out), num_threads=1)


@pytest.mark.parametrize('name', WRONG)
def test_decord_reads_the_new_clip_right_from_anywhere(tmp_path, name):
    source = write_clip(tmp_path / name, *WRONG[name])
    reencode(source, tmp_path / 'new.mp4')
    for start in (0, 15, 16, 17, 33, 47):
        wanted = list(range(start, 60, 4))
        reader = decord.VideoReader(str(tmp_path / 'new.mp4'))
        assert numbers_of(reader.get_batch(wanted).asnumpy()) == wanted


@pytest.mark.parametrize('name', [*AWKWARD, 'repeating.ts'])
def test_awkward_clips_keep_their_frames_and_their_look(tmp_path, name):
    codec, options, others = AWKWARD.get(name, ('libx264', H264, {}))
    source = write_clip(tmp_path / name, codec, options, **others)
    result, reader = reencode(source, tmp_path / 'new.mp4')
    truth = in_order(source)
    assert result['detail'] == ''
    assert len(reader) == len(truth)
    height, width = (x + x % 2 for x in truth[0].shape[:2])  # 95 x 63: 96 x 64
    for frame in truth:
        image = reader.next().asnumpy()
        assert image.shape == (height, width, 3)
        # PyAV rounds 10 bits down; to the next frame it would be 3 levels.
        assert np.abs(image.mean((0, 1)) - frame.mean((0, 1))).max() < 2
        left, right = np.array_split(image, 2, axis=1)
        old_left, old_right = np.array_split(frame, 2, axis=1)
        contrast = right.mean() - left.mean()
        assert abs(contrast - (old_right.mean() - old_left.mean())) < 1.5
    with av.open(str(source)) as container:
        rate = container.streams.video[0].average_rate
    assert reader.get_avg_fps() == pytest.approx(float(rate), rel=1e-3)


@pytest.mark.parametrize('tags', ['fullrange=on', 'colormatrix=bt709'])
def test_colours_stored_in_another_way(tmp_path, tags):
    source = tmp_path / 'colours.mp4'
    colours = np.array([[220, 30, 10], [20, 190, 40]], np.uint8)
    image = colours[None].repeat(32, 1).repeat(64, 0)
    with av.open(str(source), 'w') as container:
        stream = container.add_stream(
            'libx264', rate=25, options={'crf': '5', 'x264-params': tags}
        )
        stream.width, stream.height, stream.pix_fmt = 64, 64, 'yuv420p'
        frame = av.VideoFrame.from_ndarray(image, format='rgb24')
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    _, reader = reencode(source, tmp_path / 'new.mp4')
    before = decord.VideoReader(str(source))[0].asnumpy().astype(int)
    after = reader[0].asnumpy()
    for x in (16, 48):
        assert np.abs(before[32, x] - after[32, x]).max() <= 3


def test_how_it_is_encoded(tmp_path):
    source = tmp_path / 'with_sound.mkv'
    with av.open(str(source), 'w') as container:
        video = container.add_stream('libx264', rate=10)
        video.width, video.height, video.pix_fmt = 320, 180, 'yuv420p'
        sound = container.add_stream('aac', rate=44100)
        noise = np.random.default_rng(0).integers(0, 255, (180, 320, 3))
        for i in range(60):
            image = np.roll(noise.astype(np.uint8), i, axis=1)
            frame = av.VideoFrame.from_ndarray(image)
            container.mux(video.encode(frame))
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), 'fltp', 'mono'
            )
            frame.rate, frame.pts = 44100, i * 1024
            container.mux(sound.encode(frame))
        container.mux(video.encode())
        container.mux(sound.encode())
    encoding = tool.Encoding(short_side=64, gop=16, crf=30)
    _, reader = reencode(source, tmp_path / 'new.mp4', encoding)
    data = (tmp_path / 'new.mp4').read_bytes()
    assert data.index(b'moov') < data.index(b'mdat')  # faststart
    keys = [*reader.get_key_indices(), 60]
    assert max(np.diff(keys)) <= 16
    with av.open(str(tmp_path / 'new.mp4')) as container:
        assert [s.type for s in container.streams] == ['video']
        stream = container.streams.video[0]
        assert stream.codec_context.name == 'h264'
        assert stream.codec_context.has_b_frames == 0
        assert (stream.width, stream.height) == (114, 64)
        types = {frame.pict_type for frame in container.decode(stream)}
        assert types == {PictureType.I, PictureType.P}


@pytest.mark.parametrize(
    'size, short_side, expected',
    [
        ((320, 240), 256, (320, 240)),  # never enlarged
        ((1920, 1080), 256, (456, 256)),
        ((1080, 1920), 256, (256, 456)),
        ((341, 257), 256, (340, 256)),
        ((3, 1), 256, (4, 2)),
    ],
)
def test_sizes(size, short_side, expected):
    assert tool.even_size(*size, short_side) == expected


def run(folder, *options, out='new'):
    return subprocess.run(
        [
            sys.executable,
            str(ROOT / 'tools/data/reencode_clips.py'),
            'list.txt',
            '--data-prefix',
            'old',
            '--out',
            out,
            '--delimiter',
            ',',
            *options,
        ],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_list(tmp_path):
    old, new = tmp_path / 'old', tmp_path / 'new'
    write_clip(old / 'run/a clip.avi', *WRONG['mpeg4_b_frames.avi'])
    write_clip(old / 'walk/b.mp4', count=20)
    data = write_clip(old / 'walk/cut.avi', 'mpeg4', dict(bf='0')).read_bytes()
    (old / 'walk/cut.avi').write_bytes(data[: len(data) * 3 // 4])
    (old / 'walk/random.avi').write_bytes(np.random.default_rng(0).bytes(5000))
    os.mkfifo(old / 'walk/pipe.avi')
    (tmp_path / 'list.txt').write_text(
        'run/a clip.avi,0\nwalk/random.avi,1\nwalk/b.mp4,1\n'
        'walk/absent.avi,1\nwalk/cut.avi,1\nrun/a clip.avi,2\n'
        'walk/pipe.avi,0\n'
    )
    done = run(tmp_path, '--workers', '2')
    assert done.returncode == 1
    assert '3 clips re-encoded' in done.stdout
    assert '0 were there, 3 failed' in done.stdout
    assert 'failed: old/walk/random.avi: InvalidDataError' in done.stdout
    assert 'failed: old/walk/absent.avi: FileNotFoundError' in done.stdout
    assert 'old/walk/pipe.avi: ValueError: it is not a regular' in done.stdout
    # A clip that was cut off is kept as far as it goes, and told.
    assert 'old/walk/cut.avi: ' in done.stdout
    assert 'frames, but the file announces 60' in done.stdout
    assert (new / 'list.txt').read_text() == (
        'run/a clip.mp4,0\nwalk/b.mp4,1\nwalk/cut.mp4,1\nrun/a clip.mp4,2\n'
    )
    files = sorted(p.relative_to(new) for p in new.rglob('*.*'))
    assert [str(name) for name in files] == [
        'list.txt',
        'reencode_clips.json',
        'run/a clip.mp4',
        'walk/b.mp4',
        'walk/cut.mp4',
    ]
    found = check_clip(str(new / 'run/a clip.mp4'))
    assert (found['status'], found['frames']) == ('ok', 60)

    # Again: what is there stays, what is not is done.
    stays = os.stat(new / 'run/a clip.mp4').st_mtime_ns
    (new / 'walk/b.mp4').unlink()
    write_clip(old / 'walk/random.avi', count=9)
    (tmp_path / 'list.txt').write_text(
        'run/a clip.avi,0\nwalk/random.avi,1\nwalk/b.mp4,1\n'
    )
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    assert '2 clips re-encoded' in done.stdout
    assert '1 were there, 0 failed' in done.stdout
    assert os.stat(new / 'run/a clip.mp4').st_mtime_ns == stays
    assert 'walk/random.mp4,1' in (new / 'list.txt').read_text()

    done = run(tmp_path, '--short-side', '128')
    assert done.returncode == 1
    assert "new holds clips made with {'short_side': 256" in done.stdout
    (new / 'reencode_clips.json').write_text('{')
    done = run(tmp_path)
    assert 'reencode_clips.json cannot be read' in done.stdout
    done = run(tmp_path, out='old')
    assert 'old holds files that this script did not write' in done.stdout


def test_an_unfinished_or_wrong_file_gets_no_name(tmp_path, monkeypatch):
    source = write_clip(tmp_path / 'old.avi')
    monkeypatch.setattr(
        tool, 'check_clip', lambda *_: dict(status='ok', frames=59)
    )
    with pytest.raises(RuntimeError, match='of 60 frames came.*59'):
        reencode(source, tmp_path / 'new.mp4')
    assert [p.name for p in tmp_path.iterdir()] == ['old.avi']


@pytest.mark.parametrize(
    'names, message',
    [
        (['a.avi', 'b.avi', 'a.mkv'], r"\['a.avi', 'a.mkv'\].*a.mp4"),
        (['/data/a.avi'], 'leads out of --data-prefix'),
        (['x/../../a.avi'], 'leads out of --data-prefix'),
        (['..'], 'leads out of --data-prefix'),
    ],
)
def test_names_that_cannot_be(names, message):
    with pytest.raises(ValueError, match=f'LIST: .*{message}'):
        tool.new_names([(name, '0') for name in names])
