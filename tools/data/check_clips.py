"""Finds the clips of a list that decord decodes wrongly or not at all.

Every clip is read twice, in a separate process that may crash: in order from
    its first frame, and as in training and testing, with seeks and every
    fourth frame. Decoding is deterministic, so both must be equal bit for bit.
    If they are not, ``DecordDecode`` returns wrong frames without an error.

The report is a CSV file with one row per clip:

    ok            both agree
    wrong frames  they do not: re-encode, or use FrameExactDecode
    unsafe        both agree, but the file has no presentation times, so that
                  decord may skip other frames next time: the same remedy
    empty         a file of zero bytes
    unreadable    decord raises an error, or it is not a regular file
    crashed       decord crashes its process
    hung          decord returns no frame for --timeout seconds
    missing       no such file

A stopped run continues when it is started again: it keeps the rows whose file
    still has the recorded size and modification time.

Example::

    python tools/data/check_clips.py \
        data/hmdb51/hmdb51_train_split_1_videos.txt \
        --data-prefix data/hmdb51/videos
"""

import argparse
import csv
import io
import itertools
import os
import os.path as osp
import shlex
import sys
import time
import zlib
from collections import Counter
from typing import Any, Dict, List, Set, Tuple

import decord
import numpy as np
from clip_workers import (
    Alive,
    Result,
    check_is_file,
    clip_path,
    first_line,
    read_list,
    run_on_clips,
    run_tool,
)
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

STRIDE = 4  # stride of the frames that are compared
CLIP_LENGTH = 16  # frames of one request at most
ALIVE_EVERY = 100  # frames read in order
# Larger files are opened by their path, to save memory.
LARGEST_IN_MEMORY = 1 << 30
COLUMNS = (
    'clip',
    'status',
    'detail',
    'frames',
    'fps',
    'width',
    'height',
    'bytes',
    'changed',
)
REMEDY = 're-encode, or FrameExactDecode in place of DecordDecode'
ADVICE = {
    'wrong frames': REMEDY,
    'unsafe': REMEDY,
    'empty': 'get it again, or leave it out (--write-list)',
    'unreadable': 'get it again, re-encode or leave it out',
    'crashed': 'get it again, re-encode or leave it out',
    'hung': 'raise --timeout; get it again or leave it out',
    'missing': 'compare --data-prefix and the list',
}


def pieces(key_frames: List[int], length: int) -> List[np.ndarray]:
    """Returns the frames to compare, in the order of the requests.

    A seek goes to the key frame before the wanted frame and skips the frames
    in between. So every key frame is used, from the last to the first: once to
    skip as many frames as possible, and once to continue in strides.

    Args:
        key_frames (list[int]): Numbers of the key frames.
        length (int): Frames of the clip.

    Returns:
        list[np.ndarray]: Frame numbers of one request each.
    """
    edges = sorted({0, *key_frames, length})
    requests = []
    for start, behind in list(zip(edges, edges[1:]))[::-1]:
        requests.append(np.array([behind - 1]))
        strided = np.arange(start, behind - 1, STRIDE)
        requests += [
            strided[i : i + CLIP_LENGTH]
            for i in range(0, len(strided), CLIP_LENGTH)
        ]
    return requests


def check_clip(path: str, alive: Alive = lambda: None) -> Result:
    """Compares the strided read of a clip with the one in order.

    Args:
        path (str): The video.
        alive (callable): Called regularly.

    Returns:
        dict: ``status`` (``'ok'``, ``'wrong frames'``, ``'unsafe'``,
        ``'empty'`` or ``'unreadable'``) and ``detail``; for a readable clip
        also ``frames``, ``fps``, ``width`` and ``height``.
    """
    info = {}
    try:
        check_is_file(path)
        if not osp.getsize(path):
            return dict(status='empty', detail='a file of zero bytes')
        # decord repeats a frame instead of one that it cannot decode;
        # fault_tol makes the first repetition an error.
        reader = _open(path, fault_tol=1e-9)
        info.update(frames=len(reader), fps=round(reader.get_avg_fps(), 3))
        order = pieces(reader.get_key_indices(), len(reader))
        truth, (height, width) = _read_in_order(
            reader, set(np.concatenate(order).tolist()), alive
        )
        info.update(width=width, height=height)
        times = reader.get_frame_timestamp(range(len(reader)))[:, 0]
        wrong = _count_wrong(_open(path), order, truth, alive)
    except decord.DECORDLimitReachedError:
        return dict(
            info,
            status='wrong frames',
            detail='repeats frames even when read in order: re-encode',
        )
    except Exception as error:  # any error becomes the row of this clip
        return dict(status='unreadable', detail=first_line(error))
    if wrong:
        detail = f'{wrong} of {len(truth)} frames after a seek or a skip'
        return dict(info, status='wrong frames', detail=detail)
    if (np.diff(times) <= 0).any():
        detail = 'no usable presentation times'
        return dict(info, status='unsafe', detail=detail)
    return dict(info, status='ok', detail='')


def _open(path: str, fault_tol: float = -1) -> decord.VideoReader:
    """Opens a clip from its bytes, as stock ``DecordInit`` does."""
    source = path
    if osp.getsize(path) <= LARGEST_IN_MEMORY:
        with open(path, 'rb') as file:
            source = io.BytesIO(file.read())
    return decord.VideoReader(source, num_threads=1, fault_tol=fault_tol)


def _read_in_order(
    reader: decord.VideoReader, compared: Set[int], alive: Alive
) -> Tuple[Dict[int, int], Tuple[int, int]]:
    """Returns CRC-32 checksums of the compared frames, height and width.

    Checksums save memory for long videos.
    """
    checksums = {}
    for number in range(len(reader)):
        try:
            frame = reader.next()
        except StopIteration as error:
            raise RuntimeError(
                f'ends after {number} of {len(reader)} frames'
            ) from error
        if number in compared:
            checksums[number] = zlib.crc32(frame.asnumpy())
        if number % ALIVE_EVERY == 0:
            alive()
    return checksums, frame.shape[:2]


def _count_wrong(
    reader: decord.VideoReader,
    order: List[np.ndarray],
    truth: Dict[int, int],
    alive: Alive,
) -> int:
    """Counts the strided frames that differ from those read in order."""
    wrong = 0
    for piece in order:
        frames = reader.get_batch(piece).asnumpy()
        for number, frame in zip(piece.tolist(), frames):
            wrong += zlib.crc32(frame) != truth[number]
        alive()
    return wrong


def read_report(path: str) -> Dict[str, Dict[str, str]]:
    """Reads the rows of a report that are still valid: clip -> row.

    A row is dropped if its file is missing or has changed, if the row is
    incomplete, or if the clip hung, because it may get more time now.

    Raises:
        ValueError: If it is not a report.
    """
    if not osp.exists(path):
        return {}
    try:
        check_is_file(path)
        with open(path, newline='', encoding='utf-8') as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != list(COLUMNS):
                raise ValueError(f'its columns are {reader.fieldnames}')
            rows = list(reader)
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f'--out: {path} is not a report of check_clips.py ({error}). '
            'Name another file.'
        ) from error
    return {
        row['clip']: row
        for row in rows
        if row['status'] != 'hung'
        and osp.exists(row['clip'])
        and _stamp(row['clip'])
        == dict(bytes=row['bytes'], changed=row['changed'])
    }


def _stamp(path: str) -> Dict[str, str]:
    """Returns size and modification time, to detect changes of a file."""
    if not osp.exists(path):
        return dict(bytes='', changed='')
    found = os.stat(path)
    return dict(bytes=str(found.st_size), changed=str(found.st_mtime_ns))


def check_clips(
    paths: List[str], out: str, workers: int = 1, timeout: float = 60
) -> Dict[str, Dict[str, Any]]:
    """Checks clips and writes a row of the report after each one.

    Args:
        paths (list[str]): The videos.
        out (str): The report, which is continued if it exists.
        workers (int): Processes. Defaults to 1.
        timeout (float): Seconds without a frame after which a clip counts as
            hung. Defaults to 60.

    Returns:
        dict[str, dict]: The row of every path.
    """
    rows = read_report(out)
    todo = [path for path in dict.fromkeys(paths) if path not in rows]
    os.makedirs(osp.dirname(osp.abspath(out)), exist_ok=True)
    with open(out + '.part', 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows.values())
        file.flush()
        os.replace(out + '.part', out)  # continues the same file
        missing = [path for path in todo if not osp.exists(path)]
        done = run_on_clips(
            check_clip,
            [path for path in todo if osp.exists(path)],
            workers,
            timeout,
        )
        absent = dict(status='missing', detail='')
        results = itertools.chain(((path, absent) for path in missing), done)
        for path, result in track(
            results, 'Checking clips', len(todo), disable=not todo
        ):
            rows[path] = dict(result, clip=path, **_stamp(path))
            writer.writerow(rows[path])
            file.flush()
    return {path: rows[path] for path in paths}


def print_summary(
    rows: Dict[str, Dict[str, Any]], args: argparse.Namespace
) -> None:
    """Prints counts by status, what to do, and examples."""
    counts = Counter(row['status'] for row in rows.values())
    table = Table(box=box.MARKDOWN)
    for title in ('clips', 'status', 'what to do', 'for instance'):
        table.add_column(title, overflow='fold')
    for status, count in counts.most_common():
        example = next(r for r in rows.values() if r['status'] == status)
        shown = '' if status == 'ok' else f'{example["clip"]}'
        if example['detail']:
            shown += f': {example["detail"]}'
        table.add_row(str(count), status, ADVICE.get(status, ''), shown)
    console = Console(markup=False, highlight=False)
    console.print(table)
    if counts['wrong frames'] or counts['unsafe']:
        command = ['python', 'tools/data/reencode_clips.py', args.list]
        command += ['--data-prefix', args.data_prefix, '--out', 'OUT']
        if args.delimiter != ' ':
            command += ['--delimiter', args.delimiter]
        print(f'To re-encode: {shlex.join(command)}')


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('list', help='annotation list: "path label" a line')
    parser.add_argument(
        '--data-prefix', default='', help='folder of the paths in the list'
    )
    parser.add_argument(
        '--delimiter', default=' ', help='between path and label'
    )
    parser.add_argument(
        '--out',
        help='report to write or to continue; default: <list>_report.csv in '
        'the current folder',
    )
    parser.add_argument(
        '--write-list', help='file for the lines of LIST whose clips are ok'
    )
    parser.add_argument(
        '--workers', type=int, default=1, help='processes; default 1'
    )
    parser.add_argument(
        '--timeout',
        type=float,
        default=60,
        help='seconds without a decoded frame that are a hang; default 60',
    )
    return parser.parse_args()


def main() -> None:
    """Checks clips, prints the counts, and fails if a clip is bad."""
    args = parse_args()
    stem = osp.splitext(osp.basename(args.list))[0]
    out = args.out or f'{stem}_report.csv'
    clips = read_list(args.list, args.delimiter)
    paths = [clip_path(args.data_prefix, name) for name, _ in clips]
    known = set(read_report(out)).intersection(paths)
    start = time.monotonic()
    rows = check_clips(paths, out, args.workers, args.timeout)
    seconds = time.monotonic() - start
    print_summary(rows, args)
    count = len(rows) - len(known)
    print(
        f'Checked {count} clips in {seconds:.1f} s '
        f'({count / seconds:.1f} clips/s), {len(known)} known from before. '
        f'Report: {out}'
    )
    good = [rows[path]['status'] == 'ok' for path in paths]
    if args.write_list:
        # Not above: it takes seconds, in every process that decodes.
        from dtkd_mmaction.files import write_text

        lines = [
            f'{name}{args.delimiter}{labels}\n'
            for (name, labels), is_good in zip(clips, good)
            if is_good
        ]
        write_text(args.write_list, ''.join(lines))
        print(f'{args.write_list}: {sum(good)} of {len(good)} lines')
    if not all(good):
        sys.exit(1)


if __name__ == '__main__':
    run_tool(main)
