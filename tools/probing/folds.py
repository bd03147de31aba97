"""Cross-validation folds that never split a group of similar clips."""

import os.path as osp
import re
from collections import Counter, defaultdict
from typing import Dict, List, Sequence

import numpy as np


def group_names(names: Sequence[str], pattern: str) -> List[str]:
    """Finds the group of every clip in its name.

    Args:
        names (Sequence[str]): Paths of the clips.
        pattern (str): Regular expression. The group is the text of its
            capturing groups, or of the whole match if it has none.

    Returns:
        list[str]: One group per clip.

    Raises:
        ValueError: If it is no regular expression, does not match a name, or
            finds one group only.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f'--group-by {pattern!r} is not a regular expression: {error}.'
        ) from error
    groups, unmatched = [], []
    for name in names:
        match = expression.search(name)
        if match is None:
            unmatched.append(name)
        else:
            groups.append('/'.join(map(str, match.groups() or (match[0],))))
    if unmatched:
        raise ValueError(
            f'--group-by {pattern!r} does not match {len(unmatched)} of '
            f'{len(names)} clips, such as {unmatched[:3]}. Give a pattern '
            'that matches the path of every clip.'
        )
    if len(set(groups)) < 2:
        raise ValueError(
            f'--group-by {pattern!r} finds one group only, {groups[0]!r}, in '
            f'names such as {names[:3]}. At least two groups are needed.'
        )
    return groups


def looks_grouped(names: Sequence[str], num_classes: int) -> bool:
    """Returns whether names suggest that several clips have one source.

    That is so if most names are equal to others up to their last number, and
    the common part differs within a class (``v_Surfing_g08_c01``).
    """
    stems = [osp.splitext(name)[0] for name in names]
    common = Counter(re.sub(r'\d+\D*$', '', stem) for stem in stems)
    repeated = sum(count for count in common.values() if count > 1)
    return repeated > len(names) / 2 and len(common) > 2 * num_classes


def make_folds(
    groups: Sequence[str], labels: Sequence[int], count: int, seed: int = 0
) -> np.ndarray:
    """Distributes groups to folds so that every fold has all classes.

    Args:
        groups (Sequence[str]): Group of each clip.
        labels (Sequence[int]): Class of each clip.
        count (int): Number of folds; fewer if there are fewer groups.
        seed (int): Order in which groups of equal size are distributed.

    Returns:
        np.ndarray: (n,), number of the fold of each clip.
    """
    members: Dict[str, List[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        members[group].append(i)
    count = min(count, len(members))
    labels = np.asarray(labels)
    classes = labels.max() + 1
    totals = np.bincount(labels, minlength=classes)
    order = list(members)
    np.random.default_rng(seed).shuffle(order)
    order.sort(key=lambda group: -len(members[group]))
    held = np.zeros((count, classes))
    folds = np.zeros(len(labels), dtype=np.int64)
    for group in order:
        clips = members[group]
        added = np.bincount(labels[clips], minlength=classes)
        # The fold where the classes of this group are rarest.
        shares = (held / np.maximum(totals, 1)) @ added
        fold = min(range(count), key=lambda f: (shares[f], held[f].sum()))
        held[fold] += added
        folds[clips] = fold
    return folds
