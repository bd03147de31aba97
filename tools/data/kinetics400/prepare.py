"""Prepares Kinetics-400: 400 classes, training and validation set.

Source: the copy of the Common Visual Data Foundation (CVDF),
``train/part_0.tar.gz`` to ``part_241``, ``val/part_0.tar.gz`` to ``part_19``
and ``replacement_for_corrupted_k400.tgz``, whose clips replace those of the
parts. A clip is ``<YouTube id>_<start>_<end>.mp4``; its class and its set are
in ``annotations/train.csv`` and ``val.csv``. Folders of clips, with or without
one folder per class, work as well.

Some clips of the CSV files were removed from YouTube before they were copied.
So no copy is complete, and copies differ.

Example::

    python tools/data/kinetics400/prepare.py --archives ~/Downloads/k400_targz
"""

import re
import sys
from pathlib import Path, PurePosixPath
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from preparation import (  # noqa: E402
    ClipList,
    PreparationError,
    Report,
    Sources,
    check_name,
    download_files,
    finish,
    is_video,
    parse_args,
    read_csv,
    run,
    without_spaces,
)

CLASSES = 400
# Rows of the CSV files, and how many of their clips CVDF has.
ROWS = dict(train=246_534, val=19_906)
CLIPS = dict(train=240_258, val=19_881)
PARTS = dict(train=242, val=20)
ID_LENGTH = 11  # length of a YouTube id
COLUMNS = ('label', 'youtube_id', 'time_start', 'time_end')
# train.csv, kinetics_train.csv, kinetics400_val.csv, validate.csv, ...
CSV_FILE = r'(?:kinetics[-_]?(?:400)?[-_])?(train|val|validate)\.csv'
REPLACEMENT = 'replacement_for_corrupted_k400'

SERVER = 'https://s3.amazonaws.com/kinetics/400'
URLS = {
    'annotations/train.csv': f'{SERVER}/annotations/train.csv',
    'annotations/val.csv': f'{SERVER}/annotations/val.csv',
    **{
        f'{part}/part_{number}.tar.gz': f'{SERVER}/{part}/part_{number}.tar.gz'
        for part in ('val', 'train')
        for number in range(PARTS[part])
    },
    f'{REPLACEMENT}.tgz': f'{SERVER}/{REPLACEMENT}.tgz',
}
FETCH = """\
Kinetics-400 is at https://github.com/cvdfoundation/kinetics-dataset
    annotations/train.csv, val.csv       which clip is of which class
    train/part_0.tar.gz to part_241      the training clips, about 400 GB
    val/part_0.tar.gz to part_19         the validation clips
    replacement_for_corrupted_k400.tgz   better copies of some of them
Put them, or what is in them, into {folder}, or run again with --download."""


def annotation_route(path: PurePosixPath) -> Optional[str]:
    """Returns the path of a CSV file, with its name in MMAction2."""
    match = re.fullmatch(CSV_FILE, path.name)
    if not match:
        return None
    return f'annotations/kinetics_{match[1].replace("validate", "val")}.csv'


def read_clips(path: Path) -> List[Tuple[str, str]]:
    """Reads the clips of a CSV file.

    Args:
        path (Path): ``kinetics_train.csv`` or ``kinetics_val.csv``.

    Returns:
        list[tuple[str, str]]: Name without suffix, class with ``_`` for
        spaces, as MMAction2 names the folders.

    Raises:
        PreparationError: If it is another kind of file, or a row is wrong.
    """
    rows = read_csv(path, COLUMNS, 'a CSV file of Kinetics-400')
    return [clip_and_class(row, place) for place, row in rows]


def clip_and_class(row: Dict[str, str], place: str) -> Tuple[str, str]:
    """Reads one row of a CSV file.

    Args:
        row (dict[str, str]): The row.
        place (str): File and line, for messages.
    """
    try:
        start, end = (int(float(row[f'time_{at}'])) for at in ('start', 'end'))
    except (ValueError, OverflowError) as error:
        raise PreparationError(
            f'{place}: time_start and time_end must be seconds ({error}).'
        ) from error
    video = check_name(row['youtube_id'], 'youtube_id', place)
    label = without_spaces(row['label'].replace('"', ''))
    return (
        f'{video}_{start:06d}_{end:06d}',
        check_name(label, 'label', place),
    )


def video_routes(clips: Iterable[str]) -> Tuple:
    """Returns the routes of clips and of their replacements.

    Args:
        clips (iterable[str]): Paths of the clips,
            ``videos_train/<class>/<name>``.

    Returns:
        tuple[callable, callable]: Both find a clip by its name or, if the
            times of CVDF differ from those of the CSV file, by its YouTube id.
    """
    places = {clip.rsplit('/', 1)[1]: clip for clip in clips}
    by_id: Dict[str, str] = {}
    for name, clip in places.items():
        by_id.setdefault(name[:ID_LENGTH], clip)

    def any_route(path: PurePosixPath) -> Optional[str]:
        if not is_video(path):
            return None
        clip = places.get(path.stem) or by_id.get(path.stem[:ID_LENGTH])
        return clip and clip + path.suffix.lower()

    def route(path: PurePosixPath) -> Optional[str]:
        return None if REPLACEMENT in path.parts else any_route(path)

    def replacement_route(path: PurePosixPath) -> Optional[str]:
        return any_route(path) if REPLACEMENT in path.parts else None

    return route, replacement_route


def missing_parts(files: Iterable[PurePosixPath]) -> List[str]:
    """Returns the missing archives of incomplete sets."""
    found = {str(PurePosixPath(*path.parts[-2:])) for path in files}
    missing = []
    for part, count in PARTS.items():
        names = [f'{part}/part_{number}.tar.gz' for number in range(count)]
        if found.intersection(names):
            missing += [name for name in names if name not in found]
    return missing


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Fetches, unpacks and checks the clips, and writes the lists."""
    args = parse_args('Prepares Kinetics-400.', 'kinetics400', argv)
    if args.download:
        fetch = FETCH.format(folder=args.archives)
        download_files(URLS, args.archives, fetch)
    report = Report(args.out)
    sources = Sources(
        args.archives, args.out, report, args.workers, args.max_unpacked
    )
    sources.place_annotations(annotation_route, r'kinetics400\.tar\.gz')
    rows = {}
    for part in ROWS:
        path = args.out / f'annotations/kinetics_{part}.csv'
        if not path.is_file():
            raise PreparationError(
                f'There is no {part}.csv in {args.archives}.\n'
                + FETCH.format(folder=args.archives)
            )
        rows[part] = read_clips(path)
    classes = sorted({label for _, label in rows['train'] + rows['val']})
    labels = {name: label for label, name in enumerate(classes)}

    route, replacement_route = video_routes(
        f'videos_{part}/{label}/{name}'
        for part in rows
        for name, label in rows[part]
    )
    missing = missing_parts(sources.files)
    if missing:
        report.problem(
            f'{len(missing)} archives are missing: {", ".join(missing[:10])}'
            + ', ...' * (len(missing) > 10)
        )
    archives = [
        archive
        for archive in sources.archives(r'part_\d+\.tar\.gz')
        if 'test' not in PurePosixPath(archive.name).parts
    ]
    sources.place_videos(route, archives)
    sources.replace_videos(
        replacement_route, sources.archives(rf'{REPLACEMENT}\.(tgz|tar\.gz)')
    )
    report.count_classes(len(classes), CLASSES)
    clip_lists = [
        ClipList(
            args.out / f'kinetics400_{part}_list_videos.txt',
            args.out / f'videos_{part}',
            [(f'{label}/{name}', labels[label]) for name, label in rows[part]],
            ROWS[part],
            CLIPS[part],
        )
        for part in rows
    ]
    if not any(part.folder.is_dir() for part in clip_lists):
        raise PreparationError(
            f'There is no clip in {args.archives}.\n'
            + FETCH.format(folder=args.archives)
        )
    finish(args, report, clip_lists)


if __name__ == '__main__':
    run(main)
