"""The drawn clips: lists, labels, seeds, and files that decord reads right."""

import importlib.util
import json
from pathlib import Path

import decord
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location(
    'make_demo_clips', ROOT / 'tools/data/make_demo_clips.py'
)
demo = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(demo)

SMALL = dict(clips_per_class=2, val_per_class=1, size=32, num_frames=16)


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    """A small set that the tests only read."""
    return demo.make_clips(tmp_path_factory.mktemp('data') / 'demo', **SMALL)


def read(path):
    """Every frame of a file, read in order."""
    return decord.VideoReader(str(path))[:].asnumpy()


def entries(folder, split):
    """The lines of one list as (name, label)."""
    lines = demo.annotation_file(folder, split).read_text().splitlines()
    return [(n, int(label)) for n, label in (line.split() for line in lines)]


@pytest.mark.parametrize('split, count', [('train', 2), ('val', 1)])
def test_lists_name_every_clip_with_the_label_of_its_folder(
    clips, split, count
):
    rows = entries(clips, split)
    assert len(rows) == len(set(rows)) == count * 8
    for name, label in rows:
        assert name.split('/')[0] == demo.CLASSES[label]
        assert (clips / 'videos' / name).is_file()


def test_splits_share_no_clip_and_no_file_is_unlisted(clips):
    train, val = ({n for n, _ in entries(clips, s)} for s in ('train', 'val'))
    files = (clips / 'videos').rglob('*.mp4')
    assert not train & val
    assert train | val == {
        f.relative_to(clips / 'videos').as_posix() for f in files
    }
    videos = [read(clips / 'videos' / n).tobytes() for n in train | val]
    assert len(set(videos)) == len(videos)


@pytest.mark.parametrize('codec', ['libx264', 'mpeg4', 'mp4v'])
def test_decord_reads_strided_frames_exactly(tmp_path, monkeypatch, codec):
    if codec != 'mp4v':
        av = pytest.importorskip('av')
        if codec not in av.codecs_available:
            pytest.skip(f'PyAV without {codec}')
    monkeypatch.setattr(demo, '_codec', lambda: codec)
    rng = np.random.default_rng(0)
    drawn = demo.draw_clip('clockwise', 'opposed', rng, 64, 32)
    # A ramp of 6 grey levels a frame tells the frames apart: encoders shift
    # the brightness of a whole clip, by fewer than 3 levels.
    ramp = 6 * np.arange(32)[:, None, None, None]
    drawn = (drawn * 0.25 + ramp).astype(np.uint8)
    path = tmp_path / 'clip.mp4'
    demo.write_video(path, drawn)

    in_order = read(path)
    assert in_order.shape == drawn.shape
    assert np.abs(in_order.mean((1, 2, 3)) - drawn.mean((1, 2, 3))).max() < 3
    for indices in (range(0, 32, 4), range(3, 32, 7), [31, 0, 17, 5, 5]):
        # A fresh reader each time: a wrong seek depends on what came before.
        reader = decord.VideoReader(str(path))
        strided = reader.get_batch(list(indices)).asnumpy()
        assert np.array_equal(strided, in_order[list(indices)])


def test_a_clip_depends_on_seed_and_place_only(clips, tmp_path):
    again = demo.make_clips(tmp_path / 'again', **SMALL)
    larger = demo.make_clips(
        tmp_path / 'larger', **dict(SMALL, clips_per_class=3)
    )
    other = demo.make_clips(tmp_path / 'other', seed=1, **SMALL)
    for name, _ in entries(clips, 'train'):
        frames = read(clips / 'videos' / name)
        assert np.array_equal(frames, read(again / 'videos' / name))
        assert np.array_equal(frames, read(larger / 'videos' / name))
        assert not np.array_equal(frames, read(other / 'videos' / name))


def test_a_complete_set_is_left_alone_and_a_broken_one_is_mended(tmp_path):
    out = tmp_path / 'demo'

    def stamps():
        return {f: f.stat().st_mtime_ns for f in out.rglob('*.mp4')}

    demo.make_clips(out, **SMALL)
    first = stamps()
    demo.make_clips(out, **SMALL)
    assert stamps() == first

    next(iter(first)).unlink()
    demo.make_clips(out, **SMALL)
    assert set(stamps()) == set(first)

    demo.make_clips(out, **dict(SMALL, clips_per_class=1))
    assert len(stamps()) == 16


def test_an_interrupted_run_is_drawn_anew(tmp_path):
    out = demo.make_clips(tmp_path / 'demo', **SMALL)
    manifest = json.loads((out / demo.MANIFEST).read_text())
    assert manifest['complete']
    (out / demo.MANIFEST).write_text(json.dumps(dict(manifest, complete=0)))
    victim = out / 'videos' / entries(out, 'val')[0][0]
    victim.write_bytes(b'half a file')
    demo.make_clips(out, **SMALL)
    assert read(victim).shape == (16, 32, 32, 3)


def test_files_of_others_are_not_touched(tmp_path):
    (tmp_path / 'videos').mkdir()
    (tmp_path / 'videos/mine.mp4').write_text('mine')
    with pytest.raises(FileExistsError, match='did not write'):
        demo.make_clips(tmp_path, **SMALL)
    assert (tmp_path / 'videos/mine.mp4').read_text() == 'mine'


@pytest.mark.parametrize(
    'wrong', [dict(size=33), dict(clips_per_class=0), dict(num_frames=1)]
)
def test_wrong_arguments_name_themselves(tmp_path, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        demo.make_clips(tmp_path / 'demo', **dict(SMALL, **wrong))
    assert not (tmp_path / 'demo').exists()


def tracks(motion, relation):
    """The tracks that are drawn: the bar's angles and lengths, the discs."""
    rng = np.random.default_rng(0)
    time = np.linspace(0, 1, 32, endpoint=False)
    return demo._bar(motion, time, rng), demo._discs(relation, time, rng)


def test_the_names_say_what_is_drawn():
    turn = {}
    for motion in demo.LOCAL_MOTIONS:
        bar, _ = tracks(motion, 'together')
        turn[motion] = bar['angle'][-1] - bar['angle'][0]
    # Rows grow downwards, so a growing angle turns clockwise on the screen.
    assert turn['clockwise'] > 1 > -1 > turn['anticlockwise']
    assert turn['beat'] == 0
    for relation, sign in (('together', 1), ('opposed', -1)):
        _, discs = tracks('beat', relation)
        left, right = (np.diff(t[:, 1]) for t in discs['tracks'])
        assert np.allclose(left, sign * right)


def test_the_files_have_no_b_frames(clips):
    av = pytest.importorskip('av')
    with av.open(str(next((clips / 'videos').rglob('*.mp4')))) as video:
        kinds = [frame.pict_type for frame in video.decode(video=0)]
    assert len(kinds) == 16
    assert av.video.frame.PictureType.B not in kinds
