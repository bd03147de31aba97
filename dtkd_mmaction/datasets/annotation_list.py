"""Reads annotation lists of ``path label`` lines and finds what is wrong."""

import os
import os.path as osp
from typing import List, NamedTuple, Optional, Sequence, Tuple

from ..files import DamagedFileError, read_text

UNLABELLED = -1
# A label this large is a mistake, such as an id; it does not fit in 32 bits.
MAX_LABEL = 2**31
# Problems per list in a message.
SHOWN = 5
OTHER_DELIMITERS = {',': 'commas', '\t': 'tabs', ';': 'semicolons'}


class Clip(NamedTuple):
    """One line of a list.

    Attributes:
        line (int): Its number in the file, counted from 1.
        path (str): Path as written in the list.
        labels (tuple[int, ...]): One label, or several for ``multi_class``.
    """

    line: int
    path: str
    labels: Tuple[int, ...]


def list_file_problem(path: str) -> Optional[str]:
    """Returns why a path cannot be an annotation list, or None."""
    if osp.isdir(path):
        return 'is a folder; it must be a text file with one clip per line.'
    if not osp.exists(path):
        return (
            'does not exist. It must be a text file that lists one '
            '"path label" per line, with paths relative to '
            f'data_prefix.video. The working directory is {os.getcwd()!r}.'
        )
    if not osp.isfile(path):
        return 'is a pipe, a socket or a device; it must be a text file.'
    return None


def read_clip_list(
    path: str, delimiter: str = ' ', multi_class: bool = False
) -> Tuple[List[Clip], List[str]]:
    """Reads a list; a byte-order mark and blank lines are ignored.

    Args:
        path (str): A text file in UTF-8.
        delimiter (str): Separator of path and label. Defaults to a space.
        multi_class (bool): Whether a clip may have any number of labels.
            Defaults to False.

    Returns:
        tuple[list[Clip], list[str]]: The clips of all well-formed lines, and
            one sentence for each problem, with the line's number.
    """
    problem = list_file_problem(path)
    if problem is not None:
        return [], [problem]
    try:
        # not splitlines(), which also splits at form feeds
        lines = read_text(path).replace('\r\n', '\n').split('\n')
    except DamagedFileError as error:
        if osp.getsize(path) == 0:
            return [], ['is empty: no clip to work with.']
        return [], [f'cannot be read: {error}']
    clips: List[Clip] = []
    problems: List[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        fields = line.strip().split(delimiter)
        path_field, labels = fields[0], fields[1:]
        try:
            if not multi_class and len(labels) != 1:
                raise ValueError('number of fields')
            values = tuple(map(int, labels))
        except ValueError:
            problems.append(_line_problem(number, line, delimiter, labels))
            continue
        clips.append(Clip(number, path_field, values))
    if not clips and not problems:
        problems.append('is empty: no clip to work with.')
    return clips, problems


def _line_problem(
    number: int, line: str, delimiter: str, labels: Sequence[str]
) -> str:
    """Returns what is wrong with a line that is not ``path label``."""
    shown = line.strip() if len(line) <= 80 else f'{line.strip()[:77]}...'
    start = f'line {number} ({shown!r})'
    for other, name in OTHER_DELIMITERS.items():
        if other != delimiter and other in line and len(labels) != 1:
            return (
                f'{start}: path and label are separated by {name}. Set '
                f'dataset.delimiter={other!r}.'
            )
    expected = f'a line must be "path{delimiter}label" with an integer label'
    if not labels:
        return (
            f'{start} has no label; {expected}. For an unlabelled clip of a '
            f'training list write {UNLABELLED}.'
        )
    if len(labels) == 1:
        header = ' Remove the header line.' if number == 1 else ''
        return f'{start}: {labels[0]!r} is no integer; {expected}.{header}'
    return (
        f'{start} has {len(labels) + 1} fields separated by {delimiter!r}; '
        f'{expected}. For paths that contain {delimiter!r} choose another '
        "dataset.delimiter, such as ','."
    )


def label_problems(
    clips: Sequence[Clip],
    num_classes: Optional[int] = None,
    training: bool = True,
) -> List[str]:
    """Finds labels that no class has.

    Args:
        clips (Sequence[Clip]): A list.
        num_classes (int, optional): Classes of the model; if None, only
            labels that fit no model are found.
        training (bool): Whether clips may be unlabelled (-1). Defaults to
            True.

    Returns:
        list[str]: One sentence for each problem, with the line's number.
    """
    count = MAX_LABEL if num_classes is None else num_classes
    lowest = UNLABELLED if training else 0
    wrong = [
        (clip.line, label)
        for clip in clips
        for label in clip.labels
        if not lowest <= label < count
    ]
    if not wrong:
        return []
    labels = {label for clip in clips for label in clip.labels}
    if num_classes and labels <= {*range(1, count + 1), UNLABELLED}:
        if {label for _, label in wrong} == {num_classes}:
            return [
                f'line {wrong[0][0]}: label {num_classes}. The labels of '
                f'this list run from {min(labels - {UNLABELLED})} to '
                f'{num_classes}; the {num_classes} classes of the model are '
                f'0 to {num_classes - 1}. Subtract 1 from every label.'
            ]
    problems = []
    for line, label in wrong:
        text = f'line {line}: label {label}'
        if label == UNLABELLED:
            text += (
                ' means "unlabelled", which only a training list may hold; '
                'a validation or test clip needs its class.'
            )
        elif label < 0:
            text += ' is negative. Classes are counted from 0' + (
                f'; write {UNLABELLED} for an unlabelled clip.'
                if training
                else '.'
            )
        elif num_classes is None:
            text += ' is no class number. Classes are counted from 0.'
        else:
            text += (
                f', but the model has {num_classes} classes (0 to '
                f'{num_classes - 1}). Correct the list, or set '
                'model.num_classes to the number of classes.'
            )
        problems.append(text)
    return problems


def summary(problems: Sequence[str]) -> str:
    """Joins the first problems of a list; counts the others."""
    text = ' '.join(problems[:SHOWN])
    more = len(problems) - SHOWN
    return f'{text} ({more} more like these.)' if more > 0 else text


def refuse_special_file(path: str) -> None:
    """Raises an error for a path on which decoding could block forever.

    Raises:
        OSError: If the path is a pipe, a socket, a device or a folder.
    """
    if osp.exists(path) and not osp.isfile(path):
        raise OSError(
            f'{path} is no regular file (a pipe, a socket, a device or a '
            'folder)'
        )
