"""Re-encodes the clips of a list for correct and fast decoding.

Needs PyAV (``pip install av``), whose wheels contain the encoder x264. It
writes H.264 files without B-frames, with a key frame at least every 16 frames,
and a short side of at most 256 pixels. It neither drops nor repeats frames,
enlarges nothing, applies the rotation stored in the file, and removes the
sound. Frames of uneven duration become even, at the mean frame rate.

Every new file is checked: it must have as many frames as the source, and a
    strided read must equal one in order (``check_clips.py``). A clip that
    cannot be read is reported and omitted from the new list. A stopped run
    continues with the missing clips.

    OUT/<clip>.mp4
    OUT/<name of LIST>         with the new extensions; --data-prefix is OUT
    OUT/reencode_clips.json    the options

Example::

    python tools/data/reencode_clips.py \
        data/hmdb51/hmdb51_train_split_1_videos.txt \
        --data-prefix data/hmdb51/videos --out data/hmdb51_mp4
"""

import argparse
import os
import os.path as osp
import sys
import time
from collections import Counter
from fractions import Fraction
from typing import Dict, List, NamedTuple, Tuple

import av
from av.video.frame import PictureType
from check_clips import check_clip
from clip_workers import (
    Alive,
    Result,
    check_is_file,
    clip_path,
    read_list,
    run_on_clips,
    run_tool,
)
from rich.progress import track

OPTIONS_FILE = 'reencode_clips.json'
PART = '.part'  # ending of a clip that is not checked yet
ALIVE_EVERY = 20  # frames


class Encoding(NamedTuple):
    """Options of the encoder."""

    short_side: int
    gop: int
    crf: int


class Job(NamedTuple):
    """A clip to re-encode."""

    source: str
    target: str
    encoding: Encoding


def even_size(width: int, height: int, short_side: int) -> Tuple[int, int]:
    """Returns the size of the new clip, even as 4:2:0 colour needs.

    Args:
        width (int): Pixels of the source.
        height (int): Pixels of the source.
        short_side (int): Largest length of the shorter side in pixels.

    Returns:
        tuple[int, int]: Width and height.
    """
    scale = min(1, short_side / min(width, height))
    return tuple(max(2, 2 * round(x * scale / 2)) for x in (width, height))


def reencode(
    source: str, target: str, encoding: Encoding, alive: Alive = lambda: None
) -> Tuple[int, int]:
    """Writes a clip with another encoding.

    Args:
        source (str): The clip.
        target (str): The mp4 file to write.
        encoding (Encoding): Options of the encoder.
        alive (callable): Called regularly.

    Returns:
        tuple[int, int]: Number of decoded frames, and number of frames that
            the file states (0 if it states none).

    Raises:
        ValueError: If it is not a regular file, or has no video, no frame or
        no frame rate. av.FFmpegError: If it cannot be decoded.
    """
    check_is_file(source)
    count = 0
    with av.open(source) as reader, av.open(
        target, 'w', format='mp4', options={'movflags': 'faststart'}
    ) as writer:
        video = reader.streams.best('video')
        if video is None:
            raise ValueError('there is no video in it')
        rate = video.average_rate or video.guessed_rate
        if not rate:
            raise ValueError('it tells no frame rate')
        # Keeps 30000/1001 exactly; no rate changes by a millionth.
        rate = rate.limit_denominator(1001)
        for frame in reader.decode(video):
            if not count:
                graph = _build_graph(video, frame, encoding.short_side)
            graph.vpush(frame)
            picture = graph.vpull()
            if not count:
                stream = _add_stream(writer, picture, rate, encoding)
            picture.pict_type = PictureType.NONE  # the encoder decides
            picture.pts, picture.time_base = count, 1 / rate
            writer.mux(stream.encode(picture))
            count += 1
            if count % ALIVE_EVERY == 0:
                alive()
        if not count:
            raise ValueError('there is no frame in it')
        writer.mux(stream.encode())
        return count, video.frames


def _build_graph(
    video: av.VideoStream, frame: av.VideoFrame, short_side: int
) -> av.filter.Graph:
    """Builds FFmpeg's filters from a decoded frame to the written one.

    Sources store colours in several ways (BT.601, BT.709, full range, 10
    bits); the output has one of them, without a tag in the file.
    """
    width, height = even_size(frame.width, frame.height, short_side)
    graph = av.filter.Graph()
    nodes = [
        graph.add_buffer(template=video, time_base=video.time_base),
        graph.add(
            'scale',
            f'{width}:{height}:flags=bicubic+accurate_rnd'
            ':out_range=tv:out_color_matrix=bt601',
        ),
        graph.add('format', 'yuv420p'),
    ]
    # Rotation by quarter turns, stored in the file for players.
    for _ in range(frame.rotation // 90 % 4):
        nodes.append(graph.add('transpose', 'cclock'))
    graph.link_nodes(*nodes, graph.add('buffersink')).configure()
    return graph


def _add_stream(
    writer: av.container.OutputContainer,
    picture: av.VideoFrame,
    rate: Fraction,
    encoding: Encoding,
) -> av.VideoStream:
    stream = writer.add_stream(
        'libx264',
        rate=rate,
        options=dict(
            bf='0',
            g=str(encoding.gop),
            crf=str(encoding.crf),
            preset='veryfast',
            # One thread per process, so that the bytes do not depend on the
            # number of cores.
            threads='1',
        ),
    )
    stream.width, stream.height = picture.width, picture.height
    stream.pix_fmt = 'yuv420p'
    return stream


def reencode_checked(job: Job, alive: Alive = lambda: None) -> Result:
    """Re-encodes a clip into ``<target>.part`` and checks it.

    Args:
        job (Job): The clip.
        alive (callable): Called regularly.

    Returns:
        dict: ``status`` (``'ok'``) and ``detail``, a remark.

    Raises:
        RuntimeError: If the new file is wrong.
    """
    os.makedirs(osp.dirname(job.target), exist_ok=True)
    part = job.target + PART
    is_right = False
    try:
        count, announced = reencode(job.source, part, job.encoding, alive)
        found = check_clip(part, alive)
        if found['status'] != 'ok' or found['frames'] != count:
            raise RuntimeError(f'of {count} frames came {found}')
        is_right = True
    finally:
        if not is_right and osp.exists(part):
            os.remove(part)
    remark = ''
    if announced not in (0, count):
        remark = f'{count} frames, but the file announces {announced}'
    return dict(status='ok', detail=remark)


def prepare_folder(out: str, encoding: Encoding) -> None:
    """Makes sure that all clips of a folder have one encoding.

    Args:
        out (str): The folder.
        encoding (Encoding): Options of the encoder.

    Raises:
        FileExistsError: If it contains other files, or clips with another
            encoding.
    """
    from dtkd_mmaction.files import read_json, write_json

    options = osp.join(out, OPTIONS_FILE)
    if osp.exists(options):
        try:
            check_is_file(options)
            found = read_json(options)
        except ValueError as error:
            raise FileExistsError(
                f'--out: {options} cannot be read ({error}). Name another '
                'folder, or remove this file and the clips beside it.'
            ) from error
        if found != encoding._asdict():
            raise FileExistsError(
                f'--out: {out} holds clips made with {found}, not with '
                f'{encoding._asdict()}. Name another folder, or use the '
                'same options.'
            )
        return
    if osp.isdir(out) and os.listdir(out):
        raise FileExistsError(
            f'--out: {out} holds files that this script did not write (it '
            f'has no {OPTIONS_FILE}). Name an empty or a new folder.'
        )
    os.makedirs(out, exist_ok=True)
    write_json(options, encoding._asdict())


def new_names(clips: List[Tuple[str, str]]) -> Dict[str, str]:
    """Returns the names of the new clips: old -> new.

    Args:
        clips (list[tuple[str, str]]): Name and labels, as in the list.

    Raises:
        ValueError: If a name leads out of the folder, or two clips would get
            the same one.
    """
    renamed = {name: osp.splitext(name)[0] + '.mp4' for name, _ in clips}
    for name in renamed:
        if osp.isabs(name) or osp.normpath(name).split(os.sep)[0] == '..':
            raise ValueError(
                f'LIST: {name} leads out of --data-prefix, so it has no place '
                'below --out. List the paths relative to --data-prefix.'
            )
    new, times = Counter(renamed.values()).most_common(1)[0]
    if times > 1:
        both = [old for old, name in renamed.items() if name == new]
        raise ValueError(f'LIST: {both} would all become {new}; rename them.')
    return renamed


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('list', help='annotation list: "path label" a line')
    parser.add_argument(
        '--data-prefix', default='', help='folder of the paths in the list'
    )
    parser.add_argument(
        '--out', required=True, help='folder for the new clips and list'
    )
    parser.add_argument(
        '--delimiter', default=' ', help='between path and label'
    )
    parser.add_argument(
        '--short-side',
        type=int,
        default=256,
        help='pixels of the shorter side; smaller clips keep their size; '
        'default 256',
    )
    parser.add_argument(
        '--gop',
        type=int,
        default=16,
        help='frames from key frame to key frame; default 16',
    )
    parser.add_argument(
        '--crf',
        type=int,
        default=18,
        help='quality of x264, lower is better; default 18',
    )
    parser.add_argument(
        '--workers', type=int, default=1, help='processes; default 1'
    )
    parser.add_argument(
        '--timeout',
        type=float,
        default=60,
        help='seconds without a frame that are a hang; default 60',
    )
    return parser.parse_args()


def main() -> None:
    """Re-encodes clips, writes the new list, and reports failures."""
    # Not above: it takes seconds, in every process that encodes.
    from dtkd_mmaction.files import put_in_place, write_text

    args = parse_args()
    if 'libx264' not in av.codecs_available:
        sys.exit(
            'This PyAV has no encoder libx264. The wheels of the package '
            'index have it: pip install --force-reinstall --no-deps av'
        )
    clips = read_list(args.list, args.delimiter)
    names = new_names(clips)
    encoding = Encoding(args.short_side, args.gop, args.crf)
    prepare_folder(args.out, encoding)
    jobs = [
        Job(
            clip_path(args.data_prefix, old),
            osp.join(args.out, new),
            encoding,
        )
        for old, new in names.items()
    ]
    todo = [job for job in jobs if not osp.exists(job.target)]
    start = time.monotonic()
    failed = 0
    done = run_on_clips(reencode_checked, todo, args.workers, args.timeout)
    for job, result in track(done, 'Re-encoding clips', len(todo)):
        failed += result['status'] != 'ok'
        if result['status'] == 'ok':
            put_in_place(job.target + PART, job.target)
        if result['detail']:
            print(f'{result["status"]}: {job.source}: {result["detail"]}')
    seconds = time.monotonic() - start
    new_list = osp.join(args.out, osp.basename(args.list))
    lines = [
        f'{names[name]}{args.delimiter}{labels}\n'
        for name, labels in clips
        if osp.exists(osp.join(args.out, names[name]))
    ]
    write_text(new_list, ''.join(lines))
    print(
        f'{len(todo) - failed} clips re-encoded in {seconds:.1f} s '
        f'({len(todo) / seconds:.1f} clips/s), {len(jobs) - len(todo)} were '
        f'there, {failed} failed. List: {new_list}, with data_prefix '
        f'{args.out}'
    )
    if failed:
        sys.exit(1)


if __name__ == '__main__':
    run_tool(main)
