"""Divides clips into training and validation so that no source is in both."""

import os.path as osp
import random
import re
from collections import Counter, defaultdict
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from probing import group_names

from .clips import Clip, examples, is_integer

# Fewer training clips of a class get a note.
FEW = 10


class Division(NamedTuple):
    """Clips by split.

    Attributes:
        classes (list[str]): Names of the classes; the place is the label.
        splits (dict[str, list[Clip]]): ``train``, ``val`` and, if the source
            has one, ``test``.
        problems (list[str]): What must be repaired first.
        notes (list[str]): What was decided.
    """

    classes: List[str]
    splits: Dict[str, List[Clip]]
    problems: List[str]
    notes: List[str]


def class_names(clips: Sequence[Clip]) -> List[str]:
    """Returns the classes in the order of their labels.

    Names are sorted as text, whole numbers by value.
    """
    names = {clip.label for clip in clips}
    if all(is_integer(name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def divide(
    clips: List[Clip],
    root: str,
    val_share: float = 0.2,
    group_by: Optional[str] = None,
    seed: int = 0,
) -> Division:
    """Divides the clips that have no split yet, and checks the result.

    Args:
        clips (list[Clip]): The clips.
        root (str): Names are compared from this folder on.
        val_share (float): Share of the validation clips. Defaults to 0.2.
        group_by (str, optional): Pattern of the source in a clip's path.
            Left out, clips whose names differ in the last number only are
            one source if the names suggest it.
        seed (int): Seed of the division. Defaults to 0.

    Returns:
        Division: The clips by split.
    """
    classes = class_names(clips)
    problems = class_problems(clips, classes)
    notes: List[str] = []
    splits: Dict[str, List[Clip]] = defaultdict(list)
    for clip in clips:
        splits[clip.split or 'train'].append(clip)
    if not splits['train']:
        problems.append(
            'No clip is for training. Rename a split to train, or drop the '
            'splits.'
        )
    groups: Dict[str, str] = {}
    if not problems:
        try:
            groups, found = source_groups(
                clips, root, len(classes), group_by, not splits['val']
            )
            notes += found
        except ValueError as error:
            problems.append(str(error))
    if not problems and not splits['val']:
        splits['train'], splits['val'] = hold_out(
            splits['train'], groups, val_share, seed
        )
        notes.append(
            f'{len(splits["train"])} clips are for training, '
            f'{len(splits["val"])} for validation (--val-share {val_share:g}).'
        )
    if not problems:
        problems += coverage_problems(splits, classes, groups)
        notes += split_notes(splits, classes, groups, root)
    order = [name for name in ('train', 'val', 'test') if splits[name]]
    return Division(classes, {n: splits[n] for n in order}, problems, notes)


def class_problems(clips: Sequence[Clip], classes: List[str]) -> List[str]:
    """Returns what is wrong with the classes, before any division."""
    problems = []
    if len(classes) < 2:
        problems.append(
            f'All clips are of one class, {classes}. A classifier needs two '
            'classes or more: one folder per class, or two labels in the CSV '
            'file. For "does it happen or not", add clips of "not".'
        )
    counts = Counter(clip.label for clip in clips)
    few = [name for name in classes if counts[name] < 2]
    if few:
        problems.append(
            f'{len(few)} classes have one clip only: {examples(few)}. One is '
            'needed for training and one for validation, and ten or more '
            'make sense. Add clips, or leave these classes out.'
        )
    broken = [n for n in classes if '\n' in n or '\r' in n or n != n.strip()]
    if broken:
        problems.append(
            f'The class names {examples(broken)} have a line break, or a '
            'space at an end. Rename them.'
        )
    folded = Counter(name.casefold() for name in classes)
    alike = [name for name in classes if folded[name.casefold()] > 1]
    if alike:
        problems.append(
            f'The classes {alike} differ in upper and lower case only. '
            'Write each class in one way.'
        )
    return problems


def short_name(clip: Clip, root: str) -> str:
    """Returns the path of a clip from the root, with ``/``."""
    return osp.relpath(clip.path, root).replace(osp.sep, '/')


def source_groups(
    clips: Sequence[Clip],
    root: str,
    num_classes: int,
    group_by: Optional[str],
    guess: bool,
) -> Tuple[Dict[str, str], List[str]]:
    """Finds the source of every clip: path -> source; and notes.

    Args:
        clips (Sequence[Clip]): The clips.
        root (str): Folder from which on the pattern sees paths.
        num_classes (int): Number of classes.
        group_by (str, optional): Pattern of the source.
        guess (bool): Whether names may tell the sources without a pattern.

    Raises:
        ValueError: If ``group_by`` does not fit the names.
    """
    names = [short_name(clip, root) for clip in clips]
    paths = [clip.path for clip in clips]
    if group_by is not None:
        return dict(zip(paths, group_names(names, group_by))), []
    groups = [name_key(clip) for clip in clips]
    if not guess or not tell_sources(groups, num_classes):
        return dict(zip(paths, paths)), []
    shown = next(name for name, n in Counter(groups).items() if n > 1)
    note = (
        'Clips whose names differ in the last number only, such as '
        f"'{shown}*', are taken for one source and stay in one split. If "
        'that is wrong, give the pattern of the source with --group-by.'
    )
    return dict(zip(paths, groups)), [note]


def tell_sources(names: Sequence[str], num_classes: int) -> bool:
    """Returns whether names without their last number may be sources.

    Plain numbering (``goal_001``, ``goal_002``) says nothing: then there are
    as few of them as there are classes.
    """
    different = len(set(names))
    return 2 * num_classes < different < len(names)


def stem(name: str) -> str:
    """Returns a name without its last number and what follows it."""
    return re.sub(r'\d+\D*$', '', osp.splitext(name)[0])


def hold_out(
    clips: List[Clip], groups: Dict[str, str], share: float, seed: int
) -> Tuple[List[Clip], List[Clip]]:
    """Divides clips into training and validation, whole sources only.

    Every class gets its share of the validation clips, as far as that leaves
    it a source for training.

    Args:
        clips (list[Clip]): The clips.
        groups (dict[str, str]): Path -> source.
        share (float): Share of the validation clips in every class.
        seed (int): Order in which sources are drawn.
    """
    members = defaultdict(list)
    for clip in clips:
        members[groups[clip.path]].append(clip)
    sources = sorted(members)
    random.Random(seed).shuffle(sources)
    total = Counter(clip.label for clip in clips)
    held: Counter = Counter()
    chosen = set()

    def hold(label: str, limit: float) -> None:
        for source in sources:
            added = Counter(clip.label for clip in members[source])
            if (
                source not in chosen
                and added[label]
                and held[label] + added[label] <= limit
                # Something must be left for training.
                and all(held[n] + k < total[n] for n, k in added.items())
            ):
                chosen.add(source)
                held.update(added)

    for label in sorted(total, key=lambda name: (total[name], name)):
        hold(label, max(1, round(share * total[label])))
        if not held[label]:  # its sources are large
            smallest = min(
                sum(clip.label == label for clip in part)
                for part in members.values()
                if any(clip.label == label for clip in part)
            )
            hold(label, smallest)
    train = [c for c in clips if groups[c.path] not in chosen]
    return train, [c for c in clips if groups[c.path] in chosen]


def coverage_problems(
    splits: Dict[str, List[Clip]],
    classes: List[str],
    groups: Dict[str, str],
) -> List[str]:
    """Returns what is wrong with classes that miss in a split."""
    problems = []
    has = {name: {c.label for c in part} for name, part in splits.items()}
    for name in ('val', 'test'):
        extra = [
            c for c in classes if c in has.get(name, set()) - has['train']
        ]
        if extra:
            problems.append(
                f'{len(extra)} classes have clips in {name} and none in '
                f'train: {examples(extra)}. Add training clips, remove the '
                'classes, or correct the spelling of their folders.'
            )
    unseen = [c for c in classes if c not in has['val']]
    sources = defaultdict(set)
    for clip in splits['train']:
        sources[clip.label].add(groups[clip.path])
    stuck = [name for name in unseen if len(sources[name]) == 1]
    if stuck and not any(clip.split for clip in splits['val']):
        problems.append(
            f'All clips of {examples(stuck)} are of one source each, which '
            'cannot be in training and validation. Add clips of other '
            'sources, or correct --group-by.'
        )
    if len(has['train']) < 2 or not splits['val']:
        problems.append(
            'A division with two classes in training and a clip in '
            'validation is not possible: clips of too many classes share '
            'their sources. Correct --group-by.'
        )
    return problems


def split_notes(
    splits: Dict[str, List[Clip]],
    classes: List[str],
    groups: Dict[str, str],
    root: str,
) -> List[str]:
    """Returns warnings about sources in two splits, and about few clips."""
    notes = []
    unseen = [
        name
        for name in classes
        if name not in {clip.label for clip in splits['val']}
    ]
    if unseen:
        notes.append(
            f'WARNING: no validation clip shows {examples(unseen)}. The '
            'accuracy says nothing about these classes.'
        )
    counts = Counter(clip.label for clip in splits['train'])
    few = [
        f'{name} ({counts[name]})' for name in classes if counts[name] < FEW
    ]
    if few:
        notes.append(
            f'WARNING: fewer than {FEW} training clips of {len(few)} classes: '
            f'{examples(few)}. Expect little of them.'
        )
    notes += leak_notes(splits, classes, groups, root)
    return notes


def leak_notes(
    splits: Dict[str, List[Clip]],
    classes: List[str],
    groups: Dict[str, str],
    root: str,
) -> List[str]:
    """Returns warnings about sources that are in two splits."""
    notes = []
    clips = [clip for part in splits.values() for clip in part]
    train = {groups[c.path]: c for c in splits['train']}
    alike = defaultdict(list)
    for clip in splits['train']:
        alike[name_key(clip)].append(clip)
    told = tell_sources(list(map(name_key, clips)), len(classes))
    for name in ('val', 'test'):
        held = splits.get(name, [])
        shared = [clip for clip in held if groups[clip.path] in train]
        if shared:
            first = shared[0]
            other = train[groups[first.path]]
            notes.append(
                f'WARNING: {len(shared)} clips of {name} have a source that '
                f'is in train, too, such as {short_name(first, root)!r} and '
                f'{short_name(other, root)!r}. The accuracy will be too high.'
            )
            continue
        near = [clip for clip in held if name_key(clip) in alike]
        if near and told:
            first = near[0]
            other = alike[name_key(first)][0]
            notes.append(
                f'WARNING: {len(near)} names in {name} are nearly identical '
                f'to names in train, such as {short_name(first, root)!r} and '
                f'{short_name(other, root)!r}. If they are cut from one '
                'video, give the pattern of the source with --group-by.'
            )
    return notes


def name_key(clip: Clip) -> str:
    """Returns class and name without the last number: what may be a source."""
    return stem(f'{clip.label}/{osp.basename(clip.path)}')


# Up to the last number of a file name, as `stem`.
AUTOMATIC = r'^(.*?)(?:\d+[^\d/]*)?\.\w+$'


def probe_pattern(
    clips: Sequence[Clip], num_classes: int, group_by: Optional[str]
) -> Optional[str]:
    """Returns the pattern of the source for ``tools/probe_teacher.py``."""
    names = [name_key(clip) for clip in clips]
    if group_by is None and tell_sources(names, num_classes):
        return AUTOMATIC
    return group_by
