"""Prepares UCF101: 101 classes, three splits.

Official archives: ``UCF101.rar`` (``UCF-101/<class>/<clip>.avi``) and
``UCF101TrainTestSplits-RecognitionTask.zip``, which contains ``classInd.txt``,
``trainlist01.txt`` to ``03`` (``<class>/<clip>.avi <label from 1>``) and
``testlist01.txt`` to ``03`` (without labels).

Example::

    python tools/data/ucf101/prepare.py --archives ~/Downloads
"""

import re
import sys
from pathlib import Path, PurePosixPath
from typing import Dict, List, Optional, Sequence, Tuple

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

CLASSES = 101
CLIPS = 13320
TRAIN = {1: 9537, 2: 9586, 3: 9624}
VIDEO_ARCHIVE = 'UCF101.rar'
VIDEO_ARCHIVE_BYTES = 6_932_971_618
CLASSES_FILE = 'classInd.txt'
ANNOTATION_FILE = r'classInd\.txt|(train|test)list0[123]\.txt'
# Our name -> official name.
PARTS = dict(train='train', val='test')

URLS = {
    VIDEO_ARCHIVE: 'https://www.crcv.ucf.edu/data/UCF101/UCF101.rar',
    'UCF101TrainTestSplits-RecognitionTask.zip': (
        'https://www.crcv.ucf.edu/data/UCF101/'
        'UCF101TrainTestSplits-RecognitionTask.zip'
    ),
}
FETCH = """\
UCF101 is two archives, see https://www.crcv.ucf.edu/data/UCF101.php
    UCF101.rar                                  the clips, 6.5 GB
    UCF101TrainTestSplits-RecognitionTask.zip   the three splits
Put them, or what is in them, into {folder}, or run again with --download."""


def annotation_route(path: PurePosixPath) -> Optional[str]:
    """Returns the path of a split file."""
    if re.fullmatch(ANNOTATION_FILE, path.name):
        return f'annotations/{path.name}'
    return None


def read_classes(folder: Path) -> Dict[str, int]:
    """Reads ``classInd.txt``, which counts from 1: class -> label.

    Args:
        folder (Path): Its folder.

    Raises:
        PreparationError: If a line is not ``<number> <class>``, or the
            numbers are not 1, 2, 3 and so on.
    """
    labels = {}
    for number, (place, line) in enumerate(read_lines(folder / CLASSES_FILE)):
        found, _, name = line.strip().partition(' ')
        if found != str(number + 1) or name.strip() in ('', *labels):
            raise PreparationError(
                f'{place} is {line!r}, not "{number + 1} <class>": it is not '
                'the official classInd.txt. Fetch it again.'
            )
        labels[check_name(name.strip(), 'class', place)] = number
    return labels


def read_list(path: Path, labels: Dict[str, int]) -> List[Tuple[str, int]]:
    """Reads the clips of a list with their labels.

    Args:
        path (Path): ``trainlist01.txt`` or the like.
        labels (dict[str, int]): Result of :func:`read_classes`.

    Raises:
        PreparationError: If its labels are not those of ``classInd.txt``.
    """
    clips = []
    for place, line in read_lines(path):
        name, number = re.fullmatch(r'(.+?)(?:\s+(\d+))?\s*', line).groups()
        clip = PurePosixPath(without_spaces(name)).with_suffix('')
        label = labels.get(str(clip.parent))
        if label is None or number not in (None, str(label + 1)):
            raise PreparationError(
                f'{place}: {line!r} does not agree with classInd.txt. It must '
                'be "<class>/<clip>.avi", with the number of the class or '
                'without.'
            )
        check_name(clip.name, 'clip', place)
        clips.append((str(clip), label))
    return clips


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Fetches, unpacks and checks the clips, and writes the lists."""
    args = parse_args('Prepares UCF101.', 'ucf101', argv)
    if args.download:
        fetch = FETCH.format(folder=args.archives)
        download_files(URLS, args.archives, fetch)
    report = Report(args.out)
    sources = Sources(
        args.archives, args.out, report, args.workers, args.max_unpacked
    )
    sources.place_annotations(
        annotation_route, r'UCF101TrainTestSplits-RecognitionTask\.zip'
    )
    annotations = args.out / 'annotations'
    files = {
        (part, number): annotations / f'{official}list0{number}.txt'
        for number in TRAIN
        for part, official in PARTS.items()
    }
    for path in (annotations / CLASSES_FILE, *files.values()):
        if not path.is_file():
            raise PreparationError(
                f'There is no {path.name} in {args.archives}.\n'
                + FETCH.format(folder=args.archives)
            )
    labels = read_classes(annotations)
    lists = {key: read_list(path, labels) for key, path in files.items()}
    clips = sorted({clip for rows in lists.values() for clip, _ in rows})

    archives = sources.archives(re.escape(VIDEO_ARCHIVE))
    for archive in archives:
        report.size(archive.parts[0], VIDEO_ARCHIVE_BYTES)
    sources.place_videos(class_folder_route(clips), archives)
    videos = args.out / 'videos'
    index = index_clips(videos)
    if not index:
        raise PreparationError(
            f'There is no clip in {args.archives}.\n'
            + FETCH.format(folder=args.archives)
        )
    report.count('classes', len(labels), CLASSES)
    report.count('clips', sum(report.usable(videos, index, clips)), CLIPS)
    clip_lists = [
        ClipList(
            args.out / f'ucf101_{part}_split_{number}_videos.txt',
            videos,
            rows,
            TRAIN[number] if part == 'train' else CLIPS - TRAIN[number],
        )
        for (part, number), rows in lists.items()
    ]
    finish(args, report, clip_lists)


if __name__ == '__main__':
    run(main)
