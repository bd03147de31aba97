"""Finds the clips of a folder or a CSV file, with class and split."""

import csv
import io
import os
import os.path as osp
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from dtkd_mmaction.files import DamagedFileError, read_text

SUFFIXES = (
    *('.3gp', '.avi', '.flv', '.m2ts', '.m4v', '.mkv', '.mov', '.mp4'),
    *('.mpeg', '.mpg', '.mts', '.ogv', '.ts', '.webm', '.wmv'),
)
# Names that people give to the folders of a split.
SPLITS = dict(
    train=('train', 'training', 'trainset'),
    val=('val', 'valid', 'validation', 'dev'),
    test=('test', 'testing', 'testset'),
)
SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}
# First cell of a CSV file that has a head.
PATH_TITLES = ('path', 'clip', 'video', 'file', 'filename', 'name')
LABEL_TITLES = ('label', 'class', 'category', 'target')
# Folders that archives of macOS and version control leave behind.
JUNK = ('__MACOSX',)
# Examples per message.
SHOWN = 3


class Clip(NamedTuple):
    """One clip.

    Attributes:
        path (str): Absolute path; symbolic links are not resolved.
        label (str): Name of its class.
        split (str): ``'train'``, ``'val'``, ``'test'``, or ``''`` if the
            source does not say.
    """

    path: str
    label: str
    split: str = ''


@dataclass
class Found:
    """What a folder or a CSV file holds.

    Attributes:
        root (str): Folder that the lists are relative to.
        clips (list[Clip]): The clips, in the order of the source.
        problems (list[str]): What must be repaired first.
        notes (list[str]): What was decided or left out.
    """

    root: str
    clips: List[Clip] = field(default_factory=list)
    problems: List[str] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)


def find_clips(source: str, leave_out: Optional[str] = None) -> Found:
    """Finds all clips.

    Args:
        source (str): A folder of class folders, with or without ``train/``,
            ``val/`` and ``test/`` above them; or a CSV file.
        leave_out (str, optional): A folder that is not searched.

    Returns:
        Found: Clips, problems and notes.
    """
    root = osp.abspath(source)
    if osp.isdir(root):
        return _find_in_folder(root, leave_out)
    if not osp.exists(root):
        problem = (
            f'VIDEOS={source!r} does not exist. Give a folder that has one '
            'folder per class, or a CSV file with the columns path and label.'
        )
        return Found(root, problems=[problem])
    return _find_in_csv(root)


def examples(names: List[str]) -> str:
    """Returns the first names for a message."""
    shown = ', '.join(repr(name) for name in names[:SHOWN])
    return shown if len(names) <= SHOWN else f'{shown}, ...'


def same_text(name: str) -> str:
    """Returns one spelling of a name that Unicode can write in two ways."""
    return unicodedata.normalize('NFC', name)


# Folders


def _find_in_folder(root: str, leave_out: Optional[str]) -> Found:
    found = Found(root)
    skipped: Counter = Counter()
    videos = list(_walk(root, osp.realpath(leave_out or ''), skipped))
    if not videos:
        others = f' Its other files: {dict(skipped)}.' if skipped else ''
        found.problems.append(
            f'VIDEOS={root!r} holds no video. Files with these suffixes are '
            f'videos: {" ".join(SUFFIXES)} (upper case too).{others}'
        )
        return found
    if skipped:
        kinds = ', '.join(
            f'{n} x {kind}' for kind, n in sorted(skipped.items())
        )
        found.notes.append(f'Not videos, left out: {kinds}.')
    below, videos = _descend(videos)
    if below:
        found.root = osp.join(root, *below)
        found.notes.append(f'The class folders are in {found.root}.')
    split_layout = _has_splits(videos, found)
    loose = []
    for parts in videos:
        path = osp.join(found.root, *parts)
        split = SPLIT_OF[parts[0].lower()] if split_layout else ''
        inner = parts[1:] if split_layout else parts
        if len(inner) < 2:
            loose.append(osp.join(*parts))
        else:
            found.clips.append(Clip(path, same_text(inner[0]), split))
    if loose:
        found.problems.append(
            f'{len(loose)} videos lie in no class folder, such as '
            f'{examples(loose)}. Move each into a folder that is named like '
            'its class, or give a CSV file with the columns path and label.'
        )
    deep = [p for p in videos if len(p) > (3 if split_layout else 2)]
    if deep and not found.problems:
        found.notes.append(
            f'{len(deep)} clips lie deeper than their class folder, such as '
            f'{examples([osp.join(*p) for p in deep])}. The first folder is '
            'their class.'
        )
    return found


def _walk(
    root: str, leave_out: str, skipped: Counter
) -> Iterator[Tuple[str, ...]]:
    """Yields the parts of the path of every video, sorted.

    Symbolic links are followed; a link to a folder that is being searched
    is not.
    """
    parents: Dict[str, Tuple[str, ...]] = {root: (osp.realpath(root),)}
    for folder, folders, names in os.walk(root, followlinks=True):
        kept = []
        for name in sorted(folders):
            path = osp.join(folder, name)
            real = osp.realpath(path)
            if name.startswith('.') or name in JUNK:
                skipped['hidden folder'] += 1
            elif real != leave_out and real not in parents[folder]:
                parents[path] = (*parents[folder], real)
                kept.append(name)
        folders[:] = kept
        for name in sorted(names):
            suffix = osp.splitext(name)[1].lower()
            if name.startswith('.'):
                skipped['hidden file'] += 1
            elif suffix not in SUFFIXES:
                skipped[f'*{suffix}' if suffix else 'no suffix'] += 1
            else:
                below = osp.relpath(osp.join(folder, name), root)
                yield tuple(below.split(os.sep))


def _descend(
    videos: List[Tuple[str, ...]],
) -> Tuple[Tuple[str, ...], List[Tuple[str, ...]]]:
    """Goes down while all videos lie in one folder that holds folders."""
    below: Tuple[str, ...] = ()
    while (
        len({parts[0] for parts in videos}) == 1
        and all(len(parts) > 2 for parts in videos)
        and videos[0][0].lower() not in SPLIT_OF
    ):
        below += (videos[0][0],)
        videos = [parts[1:] for parts in videos]
    return below, videos


def _has_splits(videos: List[Tuple[str, ...]], found: Found) -> bool:
    """Returns whether the first folders are splits; may add a problem."""
    folders = sorted({parts[0] for parts in videos if len(parts) > 1})
    splits = [name for name in folders if name.lower() in SPLIT_OF]
    others = [name for name in folders if name.lower() not in SPLIT_OF]
    deep = all(len(p) > 2 for p in videos if p[0] in splits)
    if not splits or not deep:
        return False  # classes that are called so
    if others:
        found.problems.append(
            f'{found.root} holds the splits {splits} and, next to them, the '
            f'folders {others}. Move these into a split, or elsewhere.'
        )
        return False
    return True


# CSV files


def _find_in_csv(path: str) -> Found:
    """Reads ``path,label[,split]``, with or without a head."""
    found = Found(osp.dirname(path))
    try:
        text = read_text(path)
    except (DamagedFileError, OSError) as error:
        found.problems.append(
            f'VIDEOS: {error} Give a folder, or a CSV file in UTF-8 with the '
            'columns path and label.'
        )
        return found
    rows = [
        (number, [cell.strip() for cell in row])
        for number, row in enumerate(_csv_rows(text), 1)
        if any(cell.strip() for cell in row)
    ]
    columns = _columns(rows[0][1]) if rows else None
    if columns is None:
        columns = dict(path=0, label=1, split=2)
    else:
        rows = rows[1:]
    wrong = []
    for number, row in rows:
        cells = {
            name: row[i] if i is not None and i < len(row) else ''
            for name, i in columns.items()
        }
        split = cells['split'].lower()
        if not cells['path'] or not cells['label']:
            wrong.append(f'line {number} has no path or no label: {row}')
        elif split and split not in SPLIT_OF:
            wrong.append(
                f'line {number}: the split is {cells["split"]!r}, expected '
                'train, val or test'
            )
        else:
            clip = osp.normpath(osp.join(found.root, cells['path']))
            label = same_text(cells['label'])
            found.clips.append(Clip(clip, label, SPLIT_OF.get(split, '')))
    if wrong:
        found.problems.append(
            f'{path}: {len(wrong)} lines are wrong: '
            f'{"; ".join(wrong[:SHOWN])}. A line is path,label or '
            'path,label,split.'
        )
    elif not found.clips:
        found.problems.append(
            f'{path} lists no clip. A line is path,label or path,label,split.'
        )
    _check_paths(found)
    _check_integers(found)
    if found.clips:
        found.root = osp.commonpath(
            [osp.dirname(clip.path) for clip in found.clips]
        )
    return found


def _csv_rows(text: str) -> List[List[str]]:
    """Splits at commas, semicolons or tabs, whichever the first line has."""
    first = text.partition('\n')[0]
    delimiter = max(',;\t', key=first.count)
    return list(csv.reader(io.StringIO(text, newline=''), delimiter=delimiter))


def _columns(head: List[str]) -> Optional[Dict[str, Optional[int]]]:
    """Returns the columns that a head names, or None if it is none."""
    names = [cell.lower() for cell in head]
    path = next((i for i, n in enumerate(names) if n in PATH_TITLES), None)
    label = next((i for i, n in enumerate(names) if n in LABEL_TITLES), None)
    if path is None or label is None:
        return None
    split = names.index('split') if 'split' in names else None
    return dict(path=path, label=label, split=split)


def _check_paths(found: Found) -> None:
    bare = [c.path for c in found.clips if not osp.splitext(c.path)[1]]
    if bare:
        found.problems.append(
            f'{len(bare)} paths of the CSV file have no suffix, such as '
            f'{examples(bare)}. Write the whole file name.'
        )
    split = Counter(bool(clip.split) for clip in found.clips)
    if len(split) == 2:
        found.problems.append(
            f'{split[False]} of {len(found.clips)} lines of the CSV file '
            'have no split. Fill the column in every line, or in none.'
        )


def _check_integers(found: Found) -> None:
    """Tells about labels that are numbers."""
    labels = {clip.label for clip in found.clips}
    if not labels or not all(is_integer(label) for label in labels):
        return
    numbers = sorted({int(label) for label in labels})
    if numbers[0] < 0:
        found.problems.append(
            f'The CSV file has the label {numbers[0]}. Leave clips without '
            'a label out, or write the name of their class.'
        )
    elif numbers != list(range(len(numbers))):
        found.notes.append(
            f'The labels {numbers[0]} to {numbers[-1]} became 0 to '
            f'{len(numbers) - 1}; classes.txt has the old ones.'
        )


def is_integer(text: str) -> bool:
    """Returns whether a label is written as a whole number."""
    return text.lstrip('-').isdecimal()
