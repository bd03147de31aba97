"""Drawn clips: lists, labels, seeds, and files that decord reads exactly."""

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor
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

COUNTS = dict(pretrain=3, train=2, val=1)
SMALL = dict(
    pretrain_per_class=3,
    clips_per_class=2,
    val_per_class=1,
    size=32,
    num_frames=16,
)


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


@pytest.mark.parametrize('split, count', COUNTS.items())
def test_lists_name_every_clip_with_the_label_of_its_folder(
    clips, split, count
):
    rows = entries(clips, split)
    assert len(rows) == len(set(rows)) == count * 8
    for name, label in rows:
        assert name.split('/')[0] == demo.CLASSES[label]
        assert (clips / 'videos' / name).is_file()


def test_splits_share_no_clip_and_no_file_is_unlisted(clips):
    listed = [n for split in COUNTS for n, _ in entries(clips, split)]
    files = (clips / 'videos').rglob('*.mp4')
    assert sorted(listed) == sorted(
        f.relative_to(clips / 'videos').as_posix() for f in files
    )
    videos = [read(clips / 'videos' / n).tobytes() for n in listed]
    assert len(set(videos)) == len(videos) == 8 * sum(COUNTS.values())


@pytest.mark.parametrize('codec', ['libx264', 'mpeg4', 'mp4v'])
def test_decord_reads_strided_frames_exactly(tmp_path, monkeypatch, codec):
    if codec != 'mp4v':
        av = pytest.importorskip('av')
        if codec not in av.codecs_available:
            pytest.skip(f'PyAV without {codec}')
    monkeypatch.setattr(demo, '_codec', lambda: codec)
    rng = np.random.default_rng(0)
    drawn = demo.draw_clip('clockwise', rng, 64, 32)
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


def test_encoding_does_not_depend_on_chance(tmp_path):
    frames = demo.draw_clip('clockwise', np.random.default_rng(0), 32, 16)
    paths = [tmp_path / f'{i}.mp4' for i in range(400)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda path: demo.write_video(path, frames), paths))
    assert len({path.read_bytes() for path in paths}) == 1


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
    assert len(stamps()) == 8 * (3 + 1 + 1)


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
    'wrong', [dict(size=33), dict(pretrain_per_class=0), dict(num_frames=1)]
)
def test_wrong_arguments_name_themselves(tmp_path, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        demo.make_clips(tmp_path / 'demo', **dict(SMALL, **wrong))
    assert not (tmp_path / 'demo').exists()


def travelled(track):
    """Returns the size of a motion within a clip."""
    return track[-1] - track[0]


@pytest.mark.parametrize('category', demo.CLASSES)
def test_the_class_is_the_strongest_motion(category):
    axis, backwards = divmod(demo.CLASSES.index(category), 2)
    strongest = demo.MOTIONS[axis]
    for seed in range(50):
        rng = np.random.default_rng(seed)
        tracks = demo.draw_motion(category, rng, 12)
        tracks['scale'] = np.log(tracks['scale'])
        shares = {
            name: travelled(track) / demo.REACH[name]
            for name, track in tracks.items()
        }
        own = shares.pop(strongest)
        assert (own < 0) == backwards
        # the others reach at most SECONDARY of it, in any direction
        assert max(map(abs, shares.values())) <= demo.SECONDARY * abs(own)


@pytest.mark.parametrize('shape', demo.SHAPES)
def test_the_pose_says_where_the_object_is_drawn(shape):
    mask = demo._shape_mask(shape, 32)
    colours = np.full((32, 32, 3), 200, np.float32)

    def drawn(**pose):
        pose = dict(dict(x=0.5, y=0.5, angle=0.0, scale=0.5), **pose)
        frame = demo._place(
            np.zeros((64, 64, 3), np.float32), colours, mask, pose
        )
        return frame[..., 0]

    def centre(image):
        y, x = np.mgrid[:64, :64] / 64
        return np.array([(x * image).sum(), (y * image).sum()]) / image.sum()

    still = centre(drawn())
    moved = centre(drawn(x=0.6, y=0.35))
    assert np.allclose(moved - still, [0.1, -0.15], atol=0.01)
    assert drawn(scale=0.7).sum() > 1.5 * drawn().sum()
    # A growing angle turns clockwise on the screen: right goes down.
    colours[:, 16:] = 0
    first, then = centre(drawn()), centre(drawn(angle=np.pi / 2))
    assert first[0] < 0.47
    assert then[1] < first[1] - 0.03


def test_an_unknown_category_names_the_known_ones():
    with pytest.raises(ValueError, match='sideways.*clockwise'):
        demo.draw_clip('sideways', np.random.default_rng(0))


def test_the_files_have_no_b_frames(clips):
    av = pytest.importorskip('av')
    with av.open(str(next((clips / 'videos').rglob('*.mp4')))) as video:
        kinds = [frame.pict_type for frame in video.decode(video=0)]
    assert len(kinds) == 16
    assert av.video.frame.PictureType.B not in kinds
