"""Names of the classes of a data set."""

import os.path as osp
from typing import Dict, List, Optional, Set

from dtkd_mmaction.datasets.annotation_list import read_clip_list
from dtkd_mmaction.files import read_text

FILE = 'classes.txt'


def read_class_names(path: str) -> List[str]:
    """Reads one name per line, in the order of the labels."""
    return [
        line.strip() for line in read_text(path).splitlines() if line.strip()
    ]


def names_in(checkpoint: dict, classes: int) -> Optional[List[str]]:
    """Returns the names that MMEngine keeps in a checkpoint, or None."""
    meta = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
    names = meta.get('classes') or meta.get('CLASSES')
    if not isinstance(names, (list, tuple)) or len(names) != classes:
        return None
    return [str(name) for name in names]


def find_class_names(ann_file: str, classes: int) -> Optional[List[str]]:
    """Finds the names for the labels of a list.

    They are those of a ``classes.txt`` beside the list or one folder above,
    else the folders of the clips, if each label has one of its own.

    Args:
        ann_file (str): List of ``path label`` lines.
        classes (int): Number of classes.

    Returns:
        list[str] or None: In the order of the labels; None if there are no
            names.
    """
    folder = osp.dirname(osp.abspath(ann_file))
    for place in (folder, osp.dirname(folder)):
        path = osp.join(place, FILE)
        if osp.isfile(path):
            names = read_class_names(path)
            if len(names) == classes:
                return names
    return _folder_names(ann_file, classes)


def _folder_names(ann_file: str, classes: int) -> Optional[List[str]]:
    if not osp.isfile(ann_file):
        return None
    try:
        clips, _ = read_clip_list(ann_file)
    except (OSError, ValueError):
        return None
    folders: Dict[int, Set[str]] = {}
    for clip in clips:
        folder = osp.basename(osp.dirname(clip.path))
        for label in clip.labels:
            folders.setdefault(label, set()).add(folder)
    names = [folders.get(label, set()) for label in range(classes)]
    if any(len(found) != 1 for found in names):
        return None
    flat = [found.pop() for found in names]
    return flat if all(flat) and len(set(flat)) == classes else None
