"""Generates a small video data set whose classes are motions.

Every clip shows one object on a textured background. The class is the object's
strongest motion: to the right, to the left, down, up, clockwise,
anticlockwise, growing or shrinking. Shape, colours, place, size, contrast and
noise are drawn at random, and every object also has small parts of the other
three motions. So the difficulty is graded: a model that has seen more clips
recognises more of them. A mirror flip turns "right" into "left", so a pipeline
for these clips must not flip.

The folder has the layout that MMAction2 gives to HMDB51::

    OUT/videos/<class>/<name>.mp4
    OUT/demo_pretrain_split_1_videos.txt  lines "<class>/<name>.mp4 <label>"
    OUT/demo_train_split_1_videos.txt
    OUT/demo_val_split_1_videos.txt

No clip is in two lists. The demo trains its teachers on the many clips of
"pretrain" and its student on the few clips of "train".

Example::

    python tools/data/make_demo_clips.py --out data/demo \
        --pretrain-per-class 128 --clips-per-class 15 --val-per-class 50
"""

import argparse
import math
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Tuple, Union

import cv2
import numpy as np

from dtkd_mmaction.files import (
    atomic_file,
    read_json,
    write_bytes,
    write_json,
    write_text,
)

# Two directions of each of the motions MOTIONS, in that order. Rows grow
# downwards, so "down" is the positive direction and a growing angle turns
# clockwise on the screen.
CLASSES = (
    'right',
    'left',
    'down',
    'up',
    'clockwise',
    'anticlockwise',
    'growing',
    'shrinking',
)
MOTIONS = ('x', 'y', 'angle', 'scale')
SHAPES = ('disc', 'ring', 'square', 'triangle', 'bar', 'cross')
SPLITS = ('pretrain', 'train', 'val')
MANIFEST = 'demo_clips.json'
FPS = 12

# Raise it whenever a change alters the pixels: a set made by an older version
# is then generated again instead of being used as the current one.
VERSION = 3

# Full motion within one clip: frame widths, radians, and logarithm of the
# size.
REACH = dict(x=0.42, y=0.42, angle=1.3 * math.pi, scale=1.0)
# Largest size of the other motions, relative to the class's own motion.
SECONDARY = 0.4


def draw_clip(
    category: str,
    rng: np.random.Generator,
    size: int = 36,
    num_frames: int = 12,
) -> np.ndarray:
    """Draws one clip.

    Args:
        category (str): One of ``CLASSES``.
        rng (np.random.Generator): The only source of randomness.
        size (int): Height and width in pixels. Defaults to 36.
        num_frames (int): Number of frames. Motions are slower in longer
            clips, so a clip of any length shows the whole motion. Defaults
            to 12.

    Returns:
        np.ndarray: RGB frames, uint8, shaped ``(num_frames, size, size, 3)``.
    """
    motion = draw_motion(category, rng, num_frames)
    base = 105 + rng.uniform(-20, 20, 3)
    background = _texture(rng, 2 * size) + base
    drift = rng.uniform(-0.12, 0.12, 2) * size
    colours, mask = _object(rng, base, max(32, size))
    noise = rng.uniform(3, 15)

    frames = np.empty((num_frames, size, size, 3), np.uint8)
    for i in range(num_frames):
        # The background drifts, so that motion alone does not reveal the
        # object.
        moment = i / max(num_frames - 1, 1) - 0.5
        shift = np.float32(
            [[1, 0, drift[0] * moment], [0, 1, drift[1] * moment]]
        )
        shift[:, 2] -= size / 2
        frame = cv2.warpAffine(
            background,
            shift,
            (size, size),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )
        pose = {name: track[i] for name, track in motion.items()}
        frame = _place(frame, colours, mask, pose)
        frame += rng.normal(0, noise, frame.shape)
        frames[i] = np.clip(frame, 0, 255)
    return frames


def draw_motion(
    category: str, rng: np.random.Generator, num_frames: int
) -> Dict[str, np.ndarray]:
    """Draws the object's place, angle and size in every frame.

    Args:
        category (str): One of ``CLASSES``.
        rng (np.random.Generator): The source of randomness.
        num_frames (int): Number of frames.

    Returns:
        dict[str, np.ndarray]: For each of ``MOTIONS`` one number per frame.
            Places and sizes are in frame widths.

    Raises:
        ValueError: For an unknown category.
    """
    if category not in CLASSES:
        raise ValueError(
            f'category is {category!r}, expected one of {CLASSES}'
        )
    axis, backwards = divmod(CLASSES.index(category), 2)
    strength = rng.uniform(0.55, 1)
    amounts = rng.uniform(-SECONDARY, SECONDARY, len(MOTIONS)) * strength
    amounts[axis] = -strength if backwards else strength
    time = np.linspace(-0.5, 0.5, num_frames)
    tracks = {
        name: amount * REACH[name] * time
        for name, amount in zip(MOTIONS, amounts)
    }
    tracks['x'] += 0.5 + rng.uniform(-0.08, 0.08)
    tracks['y'] += 0.5 + rng.uniform(-0.08, 0.08)
    tracks['angle'] += rng.uniform(0, 2 * math.pi)
    tracks['scale'] = rng.uniform(0.42, 0.62) * np.exp(tracks['scale'])
    return tracks


def _texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draws a smooth random texture around zero, ``(size, size, 3)``."""
    cells = int(rng.integers(4, 14))
    coarse = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return smooth * np.float32(rng.uniform(2, 15))


def _object(
    rng: np.random.Generator, base: np.ndarray, size: int
) -> Tuple[np.ndarray, np.ndarray]:
    """Draws the object's colours, ``(size, size, 3)``, and its mask."""
    shape = SHAPES[rng.integers(len(SHAPES))]
    contrast = rng.uniform(50, 120)
    # Two halves of different colours, so that the rotation of every shape is
    # visible. The object is brighter than its background on average: without
    # this clue a small ViT needs several times as many steps.
    first = base + contrast * rng.uniform(0.5, 1, 3)
    second = base + contrast * rng.uniform(-0.5, 0.2, 3)
    along = rng.uniform(0, 2 * math.pi)
    y, x = np.mgrid[:size, :size] - size / 2
    half = (x * math.cos(along) + y * math.sin(along) > 0)[..., None]
    colours = np.where(half, first, second).astype(np.float32)
    return colours, _shape_mask(shape, size)


def _shape_mask(shape: str, size: int) -> np.ndarray:
    """Returns 1 inside a shape and 0 outside, ``(size, size)``."""
    mask = np.zeros((size, size), np.float32)

    def part(fraction: float) -> int:
        return int(round(fraction * size))

    centre = (size // 2, size // 2)
    if shape == 'disc':
        cv2.circle(mask, centre, part(0.34), 1, cv2.FILLED)
    elif shape == 'ring':
        cv2.circle(mask, centre, part(0.3), 1, part(0.16))
    elif shape == 'square':
        mask[part(0.2) : part(0.8), part(0.2) : part(0.8)] = 1
    elif shape == 'triangle':
        corners = [
            (part(0.5), part(0.1)),
            (part(0.86), part(0.78)),
            (part(0.14), part(0.78)),
        ]
        cv2.fillConvexPoly(mask, np.array(corners, np.int32), 1)
    elif shape == 'bar':
        mask[part(0.36) : part(0.64), part(0.08) : part(0.92)] = 1
    else:  # a cross
        mask[part(0.38) : part(0.62), part(0.1) : part(0.9)] = 1
        mask[part(0.1) : part(0.9), part(0.38) : part(0.62)] = 1
    return mask


def _place(
    frame: np.ndarray,
    colours: np.ndarray,
    mask: np.ndarray,
    pose: Dict[str, float],
) -> np.ndarray:
    """Returns the frame with the object at its place, angle and size."""
    size, patch = frame.shape[0], mask.shape[0]
    zoom = pose['scale'] * size / patch
    cos, sin = zoom * math.cos(pose['angle']), zoom * math.sin(pose['angle'])
    # The middle of the patch goes to (x, y).
    matrix = np.float32(
        [
            [cos, -sin, pose['x'] * size - (cos - sin) * patch / 2],
            [sin, cos, pose['y'] * size - (sin + cos) * patch / 2],
        ]
    )
    cover = cv2.warpAffine(mask, matrix, (size, size))[..., None]
    drawn = cv2.warpAffine(
        colours, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE
    )
    return (1 - cover) * frame + cover * drawn


def write_video(path: Path, frames: np.ndarray, fps: int = FPS) -> None:
    """Writes RGB frames to an mp4 file.

    H.264 with PyAV if it is installed, otherwise MPEG-4 with OpenCV. Neither
    file has B-frames, which decord can seek wrongly.

    Args:
        path (Path): The file to write.
        frames (np.ndarray): RGB frames, uint8, ``(T, H, W, 3)``; H and W even.
        fps (int): Frames per second. Defaults to 12.
    """
    codec = _codec()
    if codec == 'mp4v':
        _write_opencv(path, frames, fps)
    else:
        _write_pyav(path, frames, fps, codec)


def _codec() -> str:
    """Returns the first available encoder."""
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

    # One thread, so that the bytes do not depend on the number of cores.
    options = {'bf': '0', 'g': '12', 'threads': '1'}
    if codec == 'libx264':
        # The rate control over macroblocks (mbtree) of x264 encodes about
        # three in a thousand of these small clips differently each time.
        options.update(crf='18', preset='veryfast', mbtree='0')
    else:
        options.update(qmin='2', qmax='3')
    with atomic_file(path) as file, av.open(
        file, 'w', format='mp4'
    ) as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = 'yuv420p'
        for image in frames:
            frame = av.VideoFrame.from_ndarray(image, format='rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _write_opencv(path: Path, frames: np.ndarray, fps: int) -> None:
    height, width = frames.shape[1:3]
    with tempfile.TemporaryDirectory() as folder:  # OpenCV needs a path
        made = Path(folder, 'clip.mp4')
        writer = cv2.VideoWriter(
            str(made), cv2.VideoWriter_fourcc(*'mp4v'), fps, (width, height)
        )
        if not writer.isOpened():
            raise RuntimeError(
                f'OpenCV cannot write {path}: it has no MPEG-4 encoder. '
                'Install PyAV (pip install av), which is used when present.'
            )
        for image in frames:
            writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        writer.release()
        write_bytes(path, made.read_bytes())


def list_clips(
    clips_per_class: Dict[str, int],
) -> Iterator[Tuple[str, int, int, str]]:
    """Yields ``(split, label, index, name)`` of every clip of a set."""
    for split in SPLITS:
        for label, category in enumerate(CLASSES):
            for index in range(clips_per_class[split]):
                name = f'{category}/{category}_{split}_{index:04d}.mp4'
                yield split, label, index, name


def make_clips(
    out: Union[str, Path],
    clips_per_class: int = 15,
    val_per_class: int = 50,
    seed: int = 0,
    size: int = 36,
    num_frames: int = 12,
    progress: bool = False,
    pretrain_per_class: int = 128,
) -> Path:
    """Writes the data set, unless it already exists.

    A clip depends on the seed, its split, its class and its index only: a
    larger set contains the smaller one of the same seed, and the order of
    writing does not matter.

    Args:
        out (str | Path): The folder to fill.
        clips_per_class (int): Training clips per class. Defaults to 15.
        val_per_class (int): Validation clips per class. Defaults to 50.
        seed (int): Seed of the whole set. Defaults to 0.
        size (int): Height and width, an even number. Defaults to 36.
        num_frames (int): Frames of a clip. Defaults to 12.
        progress (bool): Whether to show a progress bar. Defaults to False.
        pretrain_per_class (int): Clips per class for the teachers. Defaults
            to 128.

    Returns:
        Path: ``out``.

    Raises:
        ValueError: For an argument that is too small, or an odd size.
        FileExistsError: If ``out`` contains other files.
    """
    for name, value, least in (
        ('clips_per_class', clips_per_class, 1),
        ('val_per_class', val_per_class, 1),
        ('pretrain_per_class', pretrain_per_class, 1),
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
    counts = dict(
        pretrain=pretrain_per_class, train=clips_per_class, val=val_per_class
    )
    wanted = dict(
        version=VERSION,
        classes=list(CLASSES),
        clips_per_class=counts,
        seed=seed,
        size=size,
        num_frames=num_frames,
    )
    clips = list(list_clips(counts))
    if _is_complete(out, wanted, clips):
        return out
    _clear(out)

    # The manifest is written first and marked as incomplete, so that an
    # interrupted run is detected and repeated.
    _write_manifest(out, wanted, complete=False)
    lists: Dict[str, List[str]] = {split: [] for split in SPLITS}
    for category in CLASSES:
        (out / 'videos' / category).mkdir(parents=True)

    def make(clip: Tuple[str, int, int, str]) -> None:
        split, label, index, name = clip
        rng = np.random.default_rng([seed, SPLITS.index(split), label, index])
        frames = draw_clip(CLASSES[label], rng, size, num_frames)
        write_video(out / 'videos' / name, frames)

    # Generating noise and encoding release the GIL, so threads are enough.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        done = pool.map(make, clips)
        for _, clip in zip(_track(done, len(clips), progress), clips):
            split, label, _, name = clip
            lists[split].append(f'{name} {label}\n')
    for split, lines in lists.items():
        write_text(annotation_file(out, split), ''.join(lines))
    _write_manifest(out, wanted, complete=True)
    return out


def annotation_file(out: Union[str, Path], split: str) -> Path:
    """Returns the list of one split, named as MMAction2 names HMDB51's."""
    return Path(out) / f'demo_{split}_split_1_videos.txt'


def _write_manifest(out: Path, wanted: Dict, complete: bool) -> None:
    write_json(out / MANIFEST, dict(wanted, complete=complete))


def _read_manifest(out: Path) -> Dict:
    try:
        return read_json(out / MANIFEST)
    except (FileNotFoundError, ValueError):
        return {}


def _is_complete(out: Path, wanted: Dict, clips: List) -> bool:
    return (
        _read_manifest(out) == dict(wanted, complete=True)
        and all(annotation_file(out, s).is_file() for s in SPLITS)
        and all((out / 'videos' / clip[-1]).is_file() for clip in clips)
    )


def _clear(out: Path) -> None:
    """Removes an outdated set, but only files that this script wrote."""
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
    """Iterates, with a progress bar on demand."""
    if not progress:
        return done
    # rich comes with mmengine.
    from rich.progress import track

    return track(done, description='Drawing clips', total=total)


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description='Draws the demo data set: eight motions, in mp4 clips.'
    )
    parser.add_argument('--out', default='data/demo', help='folder to fill')
    parser.add_argument(
        '--pretrain-per-class',
        type=int,
        default=128,
        help='clips per class for the teachers',
    )
    parser.add_argument(
        '--clips-per-class',
        type=int,
        default=15,
        help='training clips per class',
    )
    parser.add_argument(
        '--val-per-class',
        type=int,
        default=50,
        help='validation clips per class',
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--size', type=int, default=36, help='height and width, even'
    )
    parser.add_argument(
        '--frames', type=int, default=12, help='frames of a clip'
    )
    return parser.parse_args()


def main() -> None:
    """Generates the set that the command line describes."""
    args = parse_args()
    out = make_clips(
        args.out,
        clips_per_class=args.clips_per_class,
        val_per_class=args.val_per_class,
        seed=args.seed,
        size=args.size,
        num_frames=args.frames,
        progress=True,
        pretrain_per_class=args.pretrain_per_class,
    )
    per_class = (
        args.pretrain_per_class + args.clips_per_class + args.val_per_class
    )
    print(f'{out}: {len(CLASSES) * per_class} clips of {len(CLASSES)} classes')


if __name__ == '__main__':
    main()
