"""Prepares Something-Something V2: 174 classes.

Official archives: a tar.gz of ``<number>.webm`` in the parts
``20bn-something-something-v2-00`` and ``-01`` (up to ``-19`` in older
releases), and ``20bn-something-something-download-package-labels.zip`` with
``labels.json``, ``train.json``, ``validation.json`` and ``test.json``. A part
may be inside a ZIP file, or only be named ``.zip``.

Everyone must accept the licence in person, so nothing is downloaded here.

Example::

    python tools/data/sthv2/prepare.py --archives ~/Downloads
"""

import re
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import Dict, List, Optional, Sequence, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from preparation import (  # noqa: E402
    Archive,
    ClipList,
    EncryptedError,
    PreparationError,
    Report,
    Sources,
    check_name,
    finish,
    index_clips,
    is_video,
    is_wrapped,
    parse_args,
    read_json,
    run,
    wrapped_part,
)

CLASSES = 174
VIDEOS = 220_847
CLIPS = dict(train=168_913, val=24_777)
NAME = '20bn-something-something-v2'
# The old release has the second name, which MMAction2 uses.
JSON_FILE = r'(?:something-something-v2-)?(labels|train|validation|test)\.json'
LABEL_ARCHIVE = r'20bn-something-something.*labels\.zip|labels\.zip'

FETCH = f"""\
Something-Something V2 is at https://www.qualcomm.com/developer/software/\
something-something-v-2-dataset
Register there, accept the licence (everyone has to, so nothing is downloaded
here), and fetch
    {NAME}-00 and -01, 20 GB, in ZIP files or not
    (in former years twenty parts, -00 to -19; all of them are needed)
    20bn-something-something-download-package-labels.zip
Put them, or what is in them, into {{folder}}."""


def annotation_route(path: PurePosixPath) -> Optional[str]:
    """Returns the path of a JSON file, with its name in MMAction2."""
    match = re.fullmatch(JSON_FILE, path.name)
    return match and f'annotations/something-something-v2-{match[1]}.json'


def video_route(path: PurePosixPath) -> Optional[str]:
    """Returns the path of a video."""
    if is_video(path) and path.stem.isdigit():
        return f'videos/{path.stem}{path.suffix.lower()}'
    return None


def read_labels(path: Path) -> Dict[str, int]:
    """Reads ``labels.json``: class -> label.

    Args:
        path (Path): The file.

    Raises:
        PreparationError: If it is another file.
    """
    try:
        labels = {name: int(i) for name, i in read_json(path).items()}
        if len(set(labels.values())) < len(labels) or min(labels.values()) < 0:
            raise ValueError('two classes have one number, or it is negative')
        return labels
    except (AttributeError, TypeError, ValueError) as error:
        raise PreparationError(
            f'{path} must hold {{"<class>": "<number>", ...}} ({error}): it '
            'is not the official labels.json. Fetch it again.'
        ) from error


def clips_of(path: Path, labels: Dict[str, int]) -> List[Tuple[str, int]]:
    """Reads ``train.json`` or ``validation.json``: clips and labels.

    Args:
        path (Path): The file. A class is named by its template, with
            placeholders in brackets.
        labels (dict[str, int]): Class -> label, of :func:`read_labels`.

    Raises:
        PreparationError: If it is another file, or names a class that is not
            in ``labels``.
    """
    clips = []
    items = read_json(path)
    for number, item in enumerate(items if isinstance(items, list) else [{}]):
        place = f'{path}, entry {number}'
        try:
            clip, template = str(item['id']), str(item['template'])
        except (KeyError, TypeError):
            raise PreparationError(
                f'{place} must be {{"id": ..., "template": ...}}: it is not '
                'the official train.json or validation.json of '
                'Something-Something V2. Fetch it again.'
            ) from None
        name = template.replace('[', '').replace(']', '')
        if name not in labels:
            raise PreparationError(
                f'{path}, clip {clip}: there is no class {name!r} in '
                'labels.json.'
            )
        clips.append((check_name(clip, 'id', place), labels[name]))
    return clips


def video_archives(sources: Sources, report: Report) -> List[Archive]:
    """Returns the archives with videos; all parts make one archive.

    Args:
        sources (Sources): The downloaded files.
        report (Report): Collects problems of the parts.
    """
    archives = sources.archives(rf'{NAME}\.(tar|tar\.gz|tgz|zip)')
    parts: Dict[int, Path] = {}
    # Sorted, so that an unwrapped part is preferred to its ZIP file.
    for found in reversed(sources.archives(rf'{NAME}-\d\d(\.zip)?')):
        path = found.parts[0]
        parts[int(path.name[len(NAME) + 1 :][:2])] = path
    if not parts:
        return archives
    sizes = {}
    for number in range(max(parts) + 1):
        if number not in parts:
            report.problem(f'{NAME}-{number:02d} is missing.')
            continue
        try:
            sizes[number] = part_size(parts[number])
        except EncryptedError as error:
            report.problem(str(error))
        except zipfile.BadZipFile as error:
            report.problem(
                f'{parts[number].name} is damaged or was not downloaded '
                f'completely ({error}).'
            )
    # All parts but the last have the same size.
    largest = max(sizes.values(), default=0)
    for number, size in sizes.items():
        if size != largest and number != max(parts):
            report.problem(
                f'{parts[number].name} has {size:,} bytes, others have '
                f'{largest:,}: it was not downloaded completely.'
            )
    if list(sizes) == list(range(max(parts) + 1)):
        joined = tuple(parts[number] for number in sizes)
        name = f'{NAME}-00 to -{max(parts):02d}'
        archives.append(Archive(name, joined, 'tar'))
    return archives


def part_size(path: Path) -> int:
    """Returns the bytes of a part, without the ZIP file around it."""
    if not is_wrapped(path):
        return path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        return wrapped_part(archive, path.name).file_size


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Unpacks and checks the clips, and writes the lists."""
    args = parse_args(
        'Prepares Something-Something V2.', 'sthv2', argv, can_download=False
    )
    fetch = FETCH.format(folder=args.archives)
    if args.download:
        raise PreparationError(f'Nothing can be downloaded here.\n{fetch}')
    report = Report(args.out)
    sources = Sources(
        args.archives, args.out, report, args.workers, args.max_unpacked
    )
    sources.place_annotations(annotation_route, LABEL_ARCHIVE)
    files = {
        name: args.out / f'annotations/something-something-v2-{name}.json'
        for name in ('labels', 'train', 'validation')
    }
    for name, path in files.items():
        if not path.is_file():
            raise PreparationError(
                f'There is no {name}.json in {args.archives}.\n{fetch}'
            )
    labels = read_labels(files['labels'])
    clips = dict(
        train=clips_of(files['train'], labels),
        val=clips_of(files['validation'], labels),
    )
    sources.place_videos(video_route, video_archives(sources, report))
    videos = args.out / 'videos'
    index = index_clips(videos)
    if not index:
        raise PreparationError(
            f'There is no video in {args.archives} that can be unpacked.\n'
            f'{fetch}'
        )
    report.count('classes', len(labels), CLASSES)
    report.count('videos', len(index), VIDEOS)
    clip_lists = [
        ClipList(
            args.out / f'sthv2_{part}_list_videos.txt',
            videos,
            clips[part],
            CLIPS[part],
        )
        for part in clips
    ]
    finish(args, report, clip_lists)


if __name__ == '__main__':
    run(main)
