"""Prepares HMDB51: 51 classes, three splits.

Official archives: ``hmdb51_org.rar``, which contains a RAR archive per class,
    and ``test_train_splits.rar``, which contains for every class and split a
    file ``<class>_test_split<k>.txt`` with lines ``<clip>.avi 0|1|2`` (2:
    test,
1: training, 0: in neither).

Example::

    python tools/data/hmdb51/prepare.py --archives ~/Downloads
"""

import re
import sys
from pathlib import Path, PurePosixPath
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from preparation import (  # noqa: E402
    ClipList,
    PreparationError,
    Report,
    Sources,
    check_name,
    class_folder_route,
    download_files,
    finish,
    index_clips,
    parse_args,
    read_lines,
    run,
    without_spaces,
)

CLASSES = 51
CLIPS = 6766
SPLITS = (1, 2, 3)
TRAIN, VAL = 3570, 1530  # numbers of every split
VIDEO_ARCHIVE = 'hmdb51_org.rar'
VIDEO_ARCHIVE_BYTES = 2_124_008_126
SPLIT_FILE = r'(.+)_test_split([123])\.txt'

SERVER = 'http://serre-lab.clps.brown.edu/wp-content/uploads/2013/10'
URLS = {
    name: f'{SERVER}/{name}'
    for name in (VIDEO_ARCHIVE, 'test_train_splits.rar')
}
FETCH = """\
HMDB51 is two archives (CC BY 4.0), see https://serre.lab.brown.edu/hmdb51.html
    hmdb51_org.rar          the clips, about 2 GB
    test_train_splits.rar   the three splits
Put them, or what is in them, into {folder}. --download tries the addresses
that MMAction2 names; the server has been reported to be gone."""


class Split(NamedTuple):
    """Clips (``class/name``) with their labels."""

    train: List[Tuple[str, int]]
    val: List[Tuple[str, int]]


def annotation_route(path: PurePosixPath) -> Optional[str]:
    """Returns the path of a split file."""
    if re.fullmatch(SPLIT_FILE, path.name):
        return f'annotations/{path.name}'
    return None


def read_splits(
    folder: Path,
) -> Tuple[List[str], List[str], Dict[int, Split]]:
    """Reads the split files.

    Args:
        folder (Path): Their folder.

    Returns:
        tuple: Class names in the order of their labels, which is
        alphabetical; all clips; the splits by number.

    Raises:
        PreparationError: If a line is malformed.
    """
    matches = (
        re.fullmatch(SPLIT_FILE, path.name) for path in folder.glob('*.txt')
    )
    files = sorted(match.groups() for match in matches if match)
    classes = sorted({name for name, _ in files})
    for name in classes:
        check_name(name, 'class', f'{folder}/{name}_test_split?.txt')
    labels = {name: label for label, name in enumerate(classes)}
    splits = {number: Split([], []) for number in SPLITS}
    clips = {}
    for name, number in files:
        path = folder / f'{name}_test_split{number}.txt'
        for place, line in read_lines(path):
            clip, _, use = line.strip().rpartition(' ')
            if use not in ('0', '1', '2') or not clip.strip():
                raise PreparationError(
                    f'{place} is {line!r}, not "<clip>.avi 0|1|2".'
                )
            check_name(clip.strip(), 'clip', place)
            clip = f'{name}/{PurePosixPath(without_spaces(clip)).stem}'
            clips[clip] = True
            if use != '0':
                split = splits[int(number)]
                part = split.train if use == '1' else split.val
                part.append((clip, labels[name]))
    return classes, list(clips), splits


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Fetches, unpacks and checks the clips, and writes the lists."""
    args = parse_args('Prepares HMDB51.', 'hmdb51', argv)
    if args.download:
        fetch = FETCH.format(folder=args.archives)
        download_files(URLS, args.archives, fetch)
    report = Report(args.out)
    sources = Sources(
        args.archives, args.out, report, args.workers, args.max_unpacked
    )
    sources.place_annotations(annotation_route, r'test_train_splits\.rar')
    classes, clips, splits = read_splits(args.out / 'annotations')
    if not classes:
        raise PreparationError(
            f'There is no <class>_test_split1.txt in {args.archives}.\n'
            + FETCH.format(folder=args.archives)
        )
    names = '|'.join(map(re.escape, classes))
    archives = sources.archives(re.escape(VIDEO_ARCHIVE))
    for archive in archives:
        report.size(archive.parts[0], VIDEO_ARCHIVE_BYTES)
    archives += sources.archives(rf'({names})\.rar')
    sources.place_videos(class_folder_route(clips), archives)
    videos = args.out / 'videos'
    index = index_clips(videos)
    if not index:
        raise PreparationError(
            f'There is no clip in {args.archives}.\n'
            + FETCH.format(folder=args.archives)
        )
    report.count_classes(len(classes), CLASSES)
    report.count('clips', sum(report.usable(videos, index, clips)), CLIPS)
    clip_lists = [
        ClipList(
            args.out / f'hmdb51_{part}_split_{number}_videos.txt',
            videos,
            getattr(split, part),
            dict(train=TRAIN, val=VAL)[part],
        )
        for number, split in splits.items()
        for part in Split._fields
    ]
    finish(args, report, clip_lists)


if __name__ == '__main__':
    run(main)
