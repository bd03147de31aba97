"""Prepares EPIC-KITCHENS-100: segments of long videos.

The official downloader writes the videos in the required layout,
``EPIC-KITCHENS/P01/videos/P01_01.MP4``; they are linked, not copied. The CSV
files come from the repository ``epic-kitchens-100-annotations``.

Example::

    python tools/data/epic_kitchens/prepare.py --archives ~/EPIC --download
"""

import csv
import io
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Dict, List, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from preparation import (  # noqa: E402
    ClipList,
    PreparationError,
    Report,
    Sources,
    check_decoding,
    check_name,
    download_files,
    parse_args,
    read_csv,
    read_lines,
    run,
    write_lines,
)

from dtkd_mmaction.files import write_bytes, write_text  # noqa: E402

SEGMENTS = dict(train=67_217, validation=9_668)
VIDEOS = 633  # 495 for training, 138 for validation
# Class file -> classes. The nouns' second version has five more, hands and
# gloves of the VISOR masks, which no segment has.
CLASSES = {
    'EPIC_100_verb_classes.csv': 97,
    'EPIC_100_noun_classes.csv': 300,
    'EPIC_100_noun_classes_v2.csv': 300,
}
COLUMNS = ('participant_id', 'video_id', 'verb_class', 'noun_class')
VIDEO_NAME = r'(P\d\d)_\d{2,3}'
RESULTS = 'epic-kitchens-100-annotations'

SERVER = (
    'https://raw.githubusercontent.com/epic-kitchens/'
    'epic-kitchens-100-annotations/master'
)
URLS = {
    f'{RESULTS}/{name}': f'{SERVER}/{name}'
    for name in (
        'EPIC_100_train.csv',
        'EPIC_100_validation.csv',
        'EPIC_100_verb_classes.csv',
        'EPIC_100_noun_classes_v2.csv',
    )
}
FETCH = """\
EPIC-KITCHENS-100 (CC BY-NC 4.0) is
    the CSV files of https://github.com/epic-kitchens/\
epic-kitchens-100-annotations, which --download fetches
    the videos, hundreds of gigabytes, which the official downloader fetches,
    https://github.com/epic-kitchens/epic-kitchens-download-scripts:
    python epic_downloader.py --videos --action-recognition --train --val \
--output-path {folder}
Put them into {folder}."""


def annotation_route(path: PurePosixPath) -> Optional[str]:
    """Returns the path of an official CSV file."""
    if path.name in {f'EPIC_100_{part}.csv' for part in SEGMENTS} | {*CLASSES}:
        return f'annotations/{path.name}'
    return None


def video_route(path: PurePosixPath) -> Optional[str]:
    """Returns the path of a video."""
    match = re.fullmatch(VIDEO_NAME, path.stem)
    if match and path.suffix.lower() == '.mp4':
        return f'EPIC-KITCHENS/{match[1]}/videos/{path.stem}.MP4'
    return None


def read_rows(path: Path) -> List[Dict[str, str]]:
    """Reads the segments of a CSV file.

    Raises:
        PreparationError: If it does not name the videos.
    """
    rows = read_csv(
        path, COLUMNS, ' or '.join(map('EPIC_100_{}.csv'.format, SEGMENTS))
    )
    for place, row in rows:
        for column in ('participant_id', 'video_id'):
            check_name(row[column], column, place)
    return [row for _, row in rows]


def video_of(row: Dict[str, str]) -> str:
    """Returns the video of a segment, below ``EPIC-KITCHENS``, no suffix."""
    return f'{row["participant_id"]}/videos/{row["video_id"]}'


def write_rows(path: Path, official: Path, rows: List[dict]) -> None:
    """Writes a CSV file with a part of the official rows."""
    with open(official, newline='', encoding='utf-8-sig') as file:
        columns = next(csv.reader(file))
    text = io.StringIO(newline='')
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Fetches, links and checks; writes the CSV files of the configs."""
    args = parse_args('Prepares EPIC-KITCHENS-100.', 'epic_kitchens', argv)
    fetch = FETCH.format(folder=args.archives)
    if args.download:
        download_files(URLS, args.archives, fetch)
    report = Report(args.out)
    sources = Sources(
        args.archives, args.out, report, args.workers, args.max_unpacked
    )
    results, originals = args.out / RESULTS, args.out / 'annotations'

    def route(path: PurePosixPath) -> Optional[str]:
        # The file of an earlier run may be a part of the official one.
        folder = (args.archives / path).parent
        written = folder.resolve() == results.resolve()
        if written and (originals / path.name).is_file():
            return None
        return annotation_route(path)

    sources.place_annotations(route, rf'{RESULTS}.*\.zip')
    rows = {}
    for part in SEGMENTS:
        path = originals / f'EPIC_100_{part}.csv'
        if not path.is_file():
            raise PreparationError(
                f'There is no {path.name} in {args.archives}.\n{fetch}'
            )
        rows[part] = read_rows(path)
    sources.place_videos(video_route, [])

    videos = args.out / 'EPIC-KITCHENS'
    names = sorted({video_of(row) for part in rows for row in rows[part]})
    index = {
        name: f'{name}.MP4'
        for name in names
        if (videos / f'{name}.MP4').is_file()
    }
    if not index:
        raise PreparationError(
            f'There is no video in {args.archives}.\n{fetch}'
        )
    usable = dict(zip(names, report.usable(videos, index, names)))
    for name, count in CLASSES.items():
        if (originals / name).is_file():
            found = len(list(read_lines(originals / name))) - 1
            report.count_at_least(name, found, count)
    report.count('videos', sum(usable.values()), VIDEOS)
    kept = {}
    for part, count in SEGMENTS.items():
        kept[part] = [row for row in rows[part] if usable[video_of(row)]]
        name = f'EPIC_100_{part}.csv'
        report.count(f'{name}: segments named', len(rows[part]), count)
        report.count(f'{name}: segments there', len(kept[part]), count)
    report.verdict(args.allow_partial)

    results.mkdir(exist_ok=True)
    for part in SEGMENTS:
        path = results / f'EPIC_100_{part}.csv'
        original = originals / path.name
        if len(kept[part]) == len(rows[part]):
            write_bytes(path, original.read_bytes())
        else:
            write_rows(path, original, kept[part])
        print(f'{path}: {len(kept[part]):,} segments')
    # check_clips.py reads lists with labels; videos have none.
    video_list = ClipList(args.out / 'videos.txt', videos, [], 0)
    write_lines(
        video_list.path, [f'{index[name]} 0' for name in names if usable[name]]
    )
    check_decoding(args, [video_list])


if __name__ == '__main__':
    run(main)
