"""Opens every clip, finds copies, and says what is wrong with them."""

import hashlib
import os
import os.path as osp
import statistics
import sys
from collections import Counter, defaultdict
from typing import Dict, List, NamedTuple, Tuple

from .clips import Clip, examples

sys.path.insert(
    0, osp.join(osp.dirname(osp.dirname(osp.abspath(__file__))), 'data')
)

from check_clips import check_clips  # noqa: E402

# Statuses of check_clips.py that frame-exact decoding repairs.
INEXACT = ('wrong frames', 'unsafe')
WHAT_TO_DO = (
    'Repair them (python tools/data/reencode_clips.py), remove them, or '
    'repeat the command with --skip-bad to leave them out.'
)
BLOCK = 1 << 20
# The first of several copies stays: those that are measured on come first.
ORDER = dict(test=0, val=1, train=2)


class Checked(NamedTuple):
    """Result of the check.

    Attributes:
        clips (list[Clip]): Those that can be used.
        problems (list[str]): What must be repaired first.
        notes (list[str]): What was left out.
        frames (int): Frames of the median clip.
        exact (bool): Whether stock decoding is right for all clips.
    """

    clips: List[Clip]
    problems: List[str]
    notes: List[str]
    frames: int
    exact: bool


def check(
    clips: List[Clip], report: str, workers: int, skip_bad: bool
) -> Checked:
    """Opens every clip and compares the files.

    Args:
        clips (list[Clip]): The clips.
        report (str): CSV file of ``tools/data/check_clips.py``, which is
            continued if it is there.
        workers (int): Processes.
        skip_bad (bool): Whether clips that cannot be used are left out
            instead of being a problem.
    """
    rows = check_clips([clip.path for clip in clips], report, workers)
    problems: List[str] = []
    notes: List[str] = []
    broken: Dict[str, List[str]] = defaultdict(list)
    good = []
    for clip in clips:
        status = rows[clip.path]['status']
        if status == 'ok' or status in INEXACT:
            good.append(clip)
        else:
            broken[status].append(clip.path)
    for status, paths in broken.items():
        text = f'{len(paths)} clips are {status}, such as {examples(paths)}.'
        if skip_bad:
            notes.append(f'{text} They are left out.')
        else:
            problems.append(f'{text} {WHAT_TO_DO}')
    good, found, told = drop_copies(good, skip_bad)
    inexact = [c.path for c in good if rows[c.path]['status'] in INEXACT]
    if inexact:
        told.append(
            f'WARNING: fast decoding returns wrong frames of {len(inexact)} '
            f'clips, such as {examples(inexact)}. The configs decode all '
            'clips frame by frame, which is slower; '
            'tools/data/reencode_clips.py mends the files.'
        )
    frames = [int(rows[clip.path]['frames']) for clip in good]
    return Checked(
        good,
        problems + found,
        notes + told,
        int(statistics.median(frames)) if frames else 0,
        not inexact,
    )


def drop_copies(
    clips: List[Clip], skip_bad: bool
) -> Tuple[List[Clip], List[str], List[str]]:
    """Keeps one of the files that have the same content.

    Returns:
        tuple: The clips that stay, problems and notes.
    """
    sizes = Counter(os.path.getsize(clip.path) for clip in clips)
    copies = defaultdict(list)
    for clip in sorted(clips, key=lambda clip: ORDER.get(clip.split, 2)):
        size = os.path.getsize(clip.path)
        alone = sizes[size] == 1
        copies[size, '' if alone else sha256(clip.path)].append(clip)
    dropped, contradicting = [], []
    for same in copies.values():
        if len({clip.label for clip in same}) > 1:
            contradicting.append(same)
            dropped += same
        else:
            dropped += same[1:]
    problems, notes = [], []
    if contradicting:
        first = contradicting[0]
        text = (
            f'{len(contradicting)} videos have several classes, such as '
            f'{examples([f"{c.path} ({c.label})" for c in first])}, which '
            'are the same file.'
        )
        if skip_bad:
            notes.append(f'{text} They are left out.')
        else:
            problems.append(
                f'{text} Keep each in the class that it shows, or repeat the '
                'command with --skip-bad to leave all of them out.'
            )
    lost = {id(clip) for clip in dropped}
    agreed = [
        same
        for same in copies.values()
        if len(same) > 1 and same not in contradicting
    ]
    if agreed:
        shown = [' = '.join(c.path for c in same[:2]) for same in agreed]
        notes.append(
            f'{sum(len(same) - 1 for same in agreed)} clips are copies of '
            f'others, such as {examples(shown)}. One of each stays.'
        )
    return [c for c in clips if id(c) not in lost], problems, notes


def sha256(path: str) -> str:
    """Returns the hash of a file."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(BLOCK), b''):
            digest.update(block)
    return digest.hexdigest()
