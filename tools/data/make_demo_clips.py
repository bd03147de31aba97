"""Draw a small video data set whose classes are motions, not pictures.

Every clip shows three things on a textured background, among drifting
distractors:

* a bar, whose *local motion* is one of ``LOCAL_MOTIONS``: it turns
  clockwise, turns anticlockwise, swings to and fro, or beats (its length
  changes);
* two discs on opposite sides of the frame, whose *relation* is one of
  ``RELATIONS``: they rise and fall together, or in opposition.

A class is one local motion with one relation, which gives eight classes. The
colours, places, speeds, directions and brightness are drawn at random, and
each half of a class name takes another skill: the bar needs local motion, the
discs need a comparison of far-apart regions. A mirror flip turns clockwise
into anticlockwise, so a pipeline for these clips must not flip.

The folder is laid out the way MMAction2 lays out HMDB51::

    OUT/videos/<class>/<name>.mp4
    OUT/demo_train_split_1_videos.txt     lines "<class>/<name>.mp4 <label>"
    OUT/demo_val_split_1_videos.txt

Example::

    python tools/data/make_demo_clips.py --out data/demo \
        --clips-per-class 64 --val-per-class 25
"""

import argparse
import json
import math
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Tuple, Union

import cv2
import numpy as np

LOCAL_MOTIONS = ('clockwise', 'anticlockwise', 'swing', 'beat')
RELATIONS = ('together', 'opposed')
CLASSES = tuple(
    f'{motion}_{relation}'
    for motion in LOCAL_MOTIONS
    for relation in RELATIONS
)
SPLITS = ('train', 'val')
MANIFEST = 'demo_clips.json'
FPS = 16

# Raise it whenever a change alters the pixels: a set made by an older version
# is then drawn anew instead of being taken for the current one.
VERSION = 1

# OpenCV draws with this many fractional bits, so slow motion is smooth rather
# than quantised to whole pixels.
_SHIFT = 4


def draw_clip(
    local_motion: str,
    relation: str,
    rng: np.random.Generator,
    size: int = 64,
    num_frames: int = 32,
) -> np.ndarray:
    """Draw one clip.

    Args:
        local_motion (str): One of ``LOCAL_MOTIONS``.
        relation (str): One of ``RELATIONS``.
        rng (np.random.Generator): The only source of randomness.
        size (int): Height and width in pixels. Defaults to 64.
        num_frames (int): Number of frames. Periods scale with it, so that a
            clip of any length shows the whole motion. Defaults to 32.

    Returns:
        np.ndarray: RGB frames, uint8, shaped ``(num_frames, size, size, 3)``.
    """
    # One unit is the whole clip: positions in frame widths, time in clips.
    time = np.linspace(0, 1, num_frames, endpoint=False)
    background = _texture(rng, size)
    drift = rng.uniform(-0.15, 0.15, 2)
    light = 1 + rng.uniform(0, 0.15) * np.sin(
        2 * math.pi * (rng.uniform(0.5, 2) * time + rng.random())
    )
    noise = rng.uniform(2, 8)
    distractors = [_distractor(rng) for _ in range(rng.integers(1, 3))]
    bar = _bar(local_motion, time, rng)
    discs = _discs(relation, time, rng)

    frames = np.empty((num_frames, size, size, 3), np.uint8)
    for i, now in enumerate(time):
        # A drifting background keeps "something moves here" from being a
        # clue to where the actors are.
        shift = tuple(int(round(x)) for x in drift * now * size)
        frame = np.ascontiguousarray(np.roll(background, shift, axis=(0, 1)))
        for blob in distractors:
            _draw_disc(
                frame,
                blob['start'] + blob['velocity'] * now,
                blob['radius'],
                blob['colour'],
            )
        for track in discs['tracks']:
            _draw_disc(frame, track[i], discs['radius'], discs['colour'])
        _draw_bar(
            frame,
            bar['centre'],
            bar['angle'][i],
            bar['length'][i],
            bar['width'],
            bar['colours'],
        )
        frame = frame * light[i] + rng.normal(0, noise, frame.shape)
        frames[i] = np.clip(frame, 0, 255)
    return frames


def _texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """A dim, smooth random texture."""
    cells = int(rng.integers(3, 9))
    coarse = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    base = rng.uniform(50, 90, 3)
    return np.clip(base + rng.uniform(5, 20) * smooth, 0, 255).astype(
        np.float32
    )


def _bright(rng: np.random.Generator) -> np.ndarray:
    """A random colour with at least one strong channel."""
    colour = rng.uniform(150, 255, 3)
    colour[rng.integers(3)] = 255
    return colour


def _distractor(rng: np.random.Generator) -> Dict:
    """A disc that crosses the frame on a straight line."""
    direction = rng.uniform(0, 2 * math.pi)
    speed = rng.uniform(0.1, 0.6)
    return dict(
        start=rng.uniform(0.1, 0.9, 2),
        velocity=speed * np.array([math.cos(direction), math.sin(direction)]),
        radius=rng.uniform(0.02, 0.06),
        colour=rng.uniform(40, 130, 3),
    )


def _bar(
    local_motion: str, time: np.ndarray, rng: np.random.Generator
) -> Dict:
    """The bar's place, and its angle and length in every frame."""
    angle = np.full(time.shape, rng.uniform(0, 2 * math.pi))
    length = np.full(time.shape, rng.uniform(0.36, 0.44))
    # Below 1.4 turns a clip that is sampled at 8 frames still turns less than
    # a quarter between two of them: the direction stays visible.
    turns = rng.uniform(0.7, 1.4)
    wave = 2 * math.pi * (rng.uniform(1.2, 2.0) * time + rng.random())
    if local_motion == 'clockwise':
        # Image rows grow downwards: a growing angle is clockwise on screen.
        angle += 2 * math.pi * turns * time
    elif local_motion == 'anticlockwise':
        angle -= 2 * math.pi * turns * time
    elif local_motion == 'swing':
        angle += rng.uniform(0.7, 1.1) * np.sin(wave)
    elif local_motion == 'beat':
        length *= 0.75 + 0.4 * np.sin(wave)
    else:
        raise ValueError(
            f'local_motion is {local_motion!r}, '
            f'expected one of {LOCAL_MOTIONS}'
        )
    return dict(
        centre=np.array([0.5, 0.5]) + rng.uniform(-0.08, 0.08, 2),
        angle=angle,
        length=length,
        width=rng.uniform(0.09, 0.12),
        # A bright and a dark half, so that a half turn is not invisible.
        colours=(_bright(rng), rng.uniform(0, 30, 3)),
    )


def _discs(relation: str, time: np.ndarray, rng: np.random.Generator) -> Dict:
    """The two discs' look, and where each is in every frame."""
    if relation not in RELATIONS:
        raise ValueError(
            f'relation is {relation!r}, expected one of {RELATIONS}'
        )
    # The starts scatter around one phase: a first clue that each disc gives by
    # itself, so that a short training finds the relation at all.
    phase = rng.normal(0, 0.15)
    wave = np.sin(2 * math.pi * (rng.uniform(1.2, 2.0) * time + phase))
    sign = 1 if relation == 'together' else -1
    height = rng.uniform(0.22, 0.3)
    tracks = []
    for side, direction in ((0.0, 1), (1.0, sign)):
        across = abs(side - rng.uniform(0.1, 0.18))
        # Where one disc is says nothing, only how it lies to the other one.
        along = rng.uniform(0.48, 0.52) + direction * height * wave
        tracks.append(np.stack([np.full(time.shape, across), along], axis=1))
    return dict(
        tracks=tracks, radius=rng.uniform(0.09, 0.12), colour=_bright(rng)
    )


def _fixed(point: np.ndarray, size: int) -> Tuple[int, int]:
    """A point in frame widths as OpenCV's fixed-point pixels."""
    scale = size * (1 << _SHIFT)
    return round(float(point[0]) * scale), round(float(point[1]) * scale)


def _draw_disc(
    frame: np.ndarray, centre: np.ndarray, radius: float, colour: np.ndarray
) -> None:
    size = frame.shape[0]
    cv2.circle(
        frame,
        _fixed(centre, size),
        int(round(radius * size * (1 << _SHIFT))),
        colour.tolist(),
        cv2.FILLED,
        cv2.LINE_8,
        _SHIFT,
    )


def _draw_bar(
    frame: np.ndarray,
    centre: np.ndarray,
    angle: float,
    length: float,
    width: float,
    colours: Tuple[np.ndarray, np.ndarray],
) -> None:
    size = frame.shape[0]
    along = np.array([math.cos(angle), math.sin(angle)])
    across = np.array([-along[1], along[0]]) * width / 2
    for end, colour in zip((along, -along), colours):
        tip = centre + end * length / 2
        corners = [
            centre + across,
            tip + across,
            tip - across,
            centre - across,
        ]
        polygon = np.array([_fixed(p, size) for p in corners], np.int32)
        cv2.fillConvexPoly(frame, polygon, colour.tolist(), cv2.LINE_8, _SHIFT)


def write_video(path: Path, frames: np.ndarray, fps: int = FPS) -> None:
    """Write RGB frames to an mp4 file.

    H.264 through PyAV where PyAV is installed, else MPEG-4 through OpenCV.
    Neither file has B-frames, which decord can seek wrongly.

    Args:
        path (Path): The file to write.
        frames (np.ndarray): RGB frames, uint8, ``(T, H, W, 3)``; H and W even.
        fps (int): Frames per second. Defaults to 16.
    """
    codec = _codec()
    if codec == 'mp4v':
        _write_opencv(path, frames, fps)
    else:
        _write_pyav(path, frames, fps, codec)


def _codec() -> str:
    """The first encoder this environment has."""
    try:
        import av
    except ImportError:
        return 'mp4v'
    for name in ('libx264', 'mpeg4'):
        if name in av.codecs_available:
            return name
    return 'mp4v'


def _write_pyav(path: Path, frames: np.ndarray, fps: int, codec: str) -> None:
    import av

    # One thread: the bytes then do not depend on how many cores there are.
    options = {'bf': '0', 'g': '12', 'threads': '1'}
    if codec == 'libx264':
        options.update(crf='18', preset='veryfast')
    else:
        options.update(qmin='2', qmax='3')
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = 'yuv420p'
        for image in frames:
            frame = av.VideoFrame.from_ndarray(image, format='rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _write_opencv(path: Path, frames: np.ndarray, fps: int) -> None:
    height, width = frames.shape[1:3]
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter_fourcc(*'mp4v'), fps, (width, height)
    )
    if not writer.isOpened():
        raise RuntimeError(
            f'OpenCV cannot write {path}: it has no MPEG-4 encoder. '
            'Install PyAV (pip install av), which is used when present.'
        )
    for image in frames:
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()


def list_clips(
    clips_per_class: int, val_per_class: int
) -> Iterator[Tuple[str, int, int, str]]:
    """Yield ``(split, label, index, name)`` of every clip of a set."""
    counts = dict(train=clips_per_class, val=val_per_class)
    for split in SPLITS:
        for label, category in enumerate(CLASSES):
            for index in range(counts[split]):
                name = f'{category}/{category}_{split}_{index:04d}.mp4'
                yield split, label, index, name


def make_clips(
    out: Union[str, Path],
    clips_per_class: int = 64,
    val_per_class: int = 25,
    seed: int = 0,
    size: int = 64,
    num_frames: int = 32,
    progress: bool = False,
) -> Path:
    """Write the data set, or leave it alone if it is already there.

    A clip depends on the seed, its split, its class and its index only: a
    larger set holds the smaller one of the same seed, and the order of
    writing is of no account.

    Args:
        out (str | Path): The folder to fill.
        clips_per_class (int): Training clips of each class. Defaults to 64.
        val_per_class (int): Validation clips of each class. Defaults to 25.
        seed (int): Seed of the whole set. Defaults to 0.
        size (int): Height and width, an even number. Defaults to 64.
        num_frames (int): Frames of a clip. Defaults to 32.
        progress (bool): Show a progress bar. Defaults to False.

    Returns:
        Path: ``out``.
    """
    for name, value, least in (
        ('clips_per_class', clips_per_class, 1),
        ('val_per_class', val_per_class, 1),
        ('size', size, 16),
        ('num_frames', num_frames, 2),
    ):
        if value < least:
            raise ValueError(f'{name} is {value}, expected at least {least}')
    if size % 2:
        raise ValueError(
            f'size is {size}: the video format stores colour at '
            f'half resolution, use {size + 1}'
        )
    out = Path(out)
    wanted = dict(
        version=VERSION,
        classes=list(CLASSES),
        clips_per_class=clips_per_class,
        val_per_class=val_per_class,
        seed=seed,
        size=size,
        num_frames=num_frames,
    )
    clips = list(list_clips(clips_per_class, val_per_class))
    if _is_complete(out, wanted, clips):
        return out
    _clear(out)

    # The manifest goes first and unfinished, so that an interrupted run is
    # recognised as ours and drawn anew.
    _write_manifest(out, wanted, complete=False)
    lists: Dict[str, List[str]] = {split: [] for split in SPLITS}
    for category in CLASSES:
        (out / 'videos' / category).mkdir(parents=True)

    def make(clip: Tuple[str, int, int, str]) -> None:
        split, label, index, name = clip
        rng = np.random.default_rng([seed, SPLITS.index(split), label, index])
        motion, relation = CLASSES[label].split('_')
        frames = draw_clip(motion, relation, rng, size, num_frames)
        write_video(out / 'videos' / name, frames)

    # Drawing noise and encoding release the GIL: threads are enough.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        done = pool.map(make, clips)
        for clip, _ in zip(clips, _track(done, len(clips), progress)):
            split, label, _, name = clip
            lists[split].append(f'{name} {label}\n')
    for split, lines in lists.items():
        annotation_file(out, split).write_text(''.join(lines))
    _write_manifest(out, wanted, complete=True)
    return out


def annotation_file(out: Union[str, Path], split: str) -> Path:
    """The list of one split, named the way MMAction2 names HMDB51's."""
    return Path(out) / f'demo_{split}_split_1_videos.txt'


def _write_manifest(out: Path, wanted: Dict, complete: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dict(wanted, complete=complete), indent=2)
    (out / MANIFEST).write_text(text + '\n')


def _read_manifest(out: Path) -> Dict:
    try:
        return json.loads((out / MANIFEST).read_text())
    except (FileNotFoundError, ValueError):
        return {}


def _is_complete(out: Path, wanted: Dict, clips: List) -> bool:
    return (
        _read_manifest(out) == dict(wanted, complete=True)
        and all(annotation_file(out, s).is_file() for s in SPLITS)
        and all((out / 'videos' / clip[-1]).is_file() for clip in clips)
    )


def _clear(out: Path) -> None:
    """Remove an outdated set of ours; never touch a folder of others."""
    if not out.exists():
        return
    if not (out / MANIFEST).is_file():
        if any(out.iterdir()):
            raise FileExistsError(
                f'{out} holds files that this script did not write (it has '
                f'no {MANIFEST}); choose an empty or new folder for --out'
            )
        return
    shutil.rmtree(out / 'videos', ignore_errors=True)
    for split in SPLITS:
        annotation_file(out, split).unlink(missing_ok=True)


def _track(done: Iterable, total: int, progress: bool) -> Iterable:
    """Iterate, with a progress bar on demand."""
    if not progress:
        return done
    # rich comes with mmengine.
    from rich.progress import track

    return track(done, description='Drawing clips', total=total)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Draw the demo data set: eight motions, in mp4 clips.'
    )
    parser.add_argument('--out', default='data/demo', help='folder to fill')
    parser.add_argument(
        '--clips-per-class',
        type=int,
        default=64,
        help='training clips of each class',
    )
    parser.add_argument(
        '--val-per-class',
        type=int,
        default=25,
        help='validation clips of each class',
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--size', type=int, default=64, help='height and width, even'
    )
    parser.add_argument(
        '--frames', type=int, default=32, help='frames of a clip'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    out = make_clips(
        args.out,
        clips_per_class=args.clips_per_class,
        val_per_class=args.val_per_class,
        seed=args.seed,
        size=args.size,
        num_frames=args.frames,
        progress=True,
    )
    total = len(CLASSES) * (args.clips_per_class + args.val_per_class)
    print(f'{out}: {total} clips of {len(CLASSES)} classes')


if __name__ == '__main__':
    main()
