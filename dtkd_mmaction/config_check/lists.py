"""Annotation lists and clips of a config's data sets."""

import os
import os.path as osp
from collections.abc import Mapping
from typing import Dict, List, NamedTuple, Optional, Set

from mmaction.datasets import VideoDataset
from mmaction.registry import DATASETS

from ..datasets import CheckedVideoDataset
from ..datasets.annotation_list import (
    SHOWN,
    UNLABELLED,
    Clip,
    label_problems,
    list_file_problem,
    read_clip_list,
    summary,
)
from .findings import Findings, shown
from .models import ModelOf
from .signatures import find_class
from .structure import LOADERS
from .views import leaf_datasets

# Clips per list that are looked for on disk, spread over the list.
LOOKED_FOR = 50
# The most that CheckedVideoDataset may skip by default.
MISSING_SHARE = 0.2


class ListOf(NamedTuple):
    """A list that was read.

    Attributes:
        key (str): Config key of its data set.
        dataset (dict): Config of the data set.
        clips (list[Clip]): Its clips.
    """

    key: str
    dataset: Mapping
    clips: List[Clip]


def check_lists(
    config: Mapping, model: ModelOf, findings: Findings
) -> Dict[str, List[ListOf]]:
    """Reads all lists and compares their labels with the model's classes.

    Returns:
        dict[str, list[ListOf]]: Loader -> lists that could be read.
    """
    lists: Dict[str, List[ListOf]] = {loader: [] for loader in LOADERS}
    for loader in LOADERS:
        leaves = leaf_datasets(config.get(loader), loader)
        if leaves and isinstance(config[loader].get('dataset'), Mapping):
            for dataset, key in leaves:
                found = _check_list(loader, dataset, key, model, findings)
                if found is not None:
                    lists[loader].append(found)
    _check_classes(lists, model, findings)
    _check_unlabelled(lists, config, model, findings)
    return lists


def _check_list(
    loader: str,
    dataset: Mapping,
    key: str,
    model: ModelOf,
    findings: Findings,
) -> Optional[ListOf]:
    part = find_class(DATASETS, dataset.get('type'))
    path = list_path(dataset)
    if not isinstance(part, type) or path is None or '://' in path:
        return None
    # A stock data set passes lists that ours refuses. A test list is not
    # read in training.
    strict = issubclass(part, CheckedVideoDataset)
    lenient = loader == 'test_dataloader' or not strict
    problem = list_file_problem(path)
    if problem is not None:
        add = findings.warn if loader == 'test_dataloader' else findings.error
        add(f'{key}.ann_file', problem, shown(path, 200))
        return None
    if not (
        issubclass(part, VideoDataset)
        and getattr(part, 'load_data_list', None)
        in (VideoDataset.load_data_list, CheckedVideoDataset.load_data_list)
    ):
        return None
    delimiter = dataset.get('delimiter', ' ')
    if not isinstance(delimiter, str) or not delimiter:
        findings.error(
            f'{key}.delimiter', 'it must be a string.', shown(delimiter)
        )
        return None
    multi_class = bool(dataset.get('multi_class'))
    training = not dataset.get('test_mode', False)
    clips, problems = read_clip_list(path, delimiter, multi_class)
    if not problems:
        count = None
        if model.classes is not None and len(model.classes) == 1:
            count = next(iter(model.classes.values()))
        problems = label_problems(clips, count, training)
    if problems:
        add = findings.warn if lenient else findings.error
        add(f'{key}.ann_file', summary(problems), shown(path, 200))
    _check_files(dataset, clips, key, loader, findings)
    indices = dataset.get('indices')
    if isinstance(indices, int):
        clips = clips[:indices] if indices >= 0 else clips[indices:]
    elif isinstance(indices, (list, tuple)):
        clips = [clips[i] for i in indices if -len(clips) <= i < len(clips)]
    return ListOf(key, dataset, clips)


def list_path(dataset: Mapping) -> Optional[str]:
    """Returns the path of a data set's list, as MMEngine joins it."""
    path = dataset.get('ann_file')
    if not isinstance(path, str) or not path:
        return None
    root = dataset.get('data_root')
    if root and not osp.isabs(path):
        path = osp.join(root, path)
    return path


def _check_files(
    dataset: Mapping,
    clips: List[Clip],
    key: str,
    loader: str,
    findings: Findings,
) -> None:
    """Looks for some of the clips on disk."""
    if findings.errors_below(f'{key}.data_prefix'):
        return
    prefix = (dataset.get('data_prefix') or {}).get('video') or ''
    root = dataset.get('data_root') or ''
    if not clips or '://' in prefix or '://' in root:
        return
    stride = -(-len(clips) // LOOKED_FOR)
    looked_for = clips[::stride]
    paths = [osp.join(root, prefix, clip.path) for clip in looked_for]
    missing = [
        path
        for path in paths
        # decord adds the suffix where there is none
        if not osp.exists(path) and not osp.exists(f'{path}.mp4')
    ]
    special = [p for p in paths if osp.exists(p) and not osp.isfile(p)]
    for found, text in (
        (missing, 'do not exist'),
        (special, 'are no regular files'),
    ):
        if not found:
            continue
        message = (
            f'{len(found)} of {len(paths)} clips that were looked for '
            f'{text}, such as {found[0]!r}. Set data_prefix.video to the '
            'folder below which the paths of the list lie. The working '
            f'directory is {os.getcwd()!r}.'
        )
        many = len(found) > max(1, MISSING_SHARE * len(paths))
        fatal = many and loader != 'test_dataloader'
        add = findings.error if fatal else findings.warn
        add(f'{key}.data_prefix.video', message, shown(prefix, 200))


def _labels(lists: List[ListOf]) -> Set[int]:
    found = {x for part in lists for c in part.clips for x in c.labels}
    return found - {UNLABELLED}


def _check_classes(
    lists: Dict[str, List[ListOf]], model: ModelOf, findings: Findings
) -> None:
    """Warns of classes without a training clip."""
    training = lists['train_dataloader']
    if model.classes is None or len(model.classes) != 1 or not training:
        return
    count = next(iter(model.classes.values()))
    labels = _labels(training)
    key = f'{training[0].key}.ann_file'
    if not labels or findings.errors_below(key):
        return
    absent = sorted(set(range(count)) - labels)
    if absent:
        highest = max(labels)
        hint = (
            ' Do the labels begin with 1? They must begin with 0.'
            if absent == [0]
            else f' The largest label is {highest}: is model.num_classes='
            f'{count} right, or should it be {highest + 1}?'
            if highest < count - 1
            else ''
        )
        findings.warn(
            key,
            f'{len(absent)} of {count} classes have no training clip: '
            f'{absent[:SHOWN]}{"..." if len(absent) > SHOWN else ""}.{hint}',
        )
    for loader in ('val_dataloader', 'test_dataloader'):
        for found in lists[loader]:
            unseen = sorted(_labels([found]) & set(absent))
            if unseen:
                findings.warn(
                    f'{found.key}.ann_file',
                    f'its classes {unseen[:SHOWN]} have no training clip.',
                )


def _check_unlabelled(
    lists: Dict[str, List[ListOf]],
    config: Mapping,
    model: ModelOf,
    findings: Findings,
) -> None:
    clips = [c for part in lists['train_dataloader'] for c in part.clips]
    without = [c for c in clips if c.labels == (UNLABELLED,)]
    if not without:
        return
    first = lists['train_dataloader'][0]
    key = f'{first.key}.ann_file'
    path = shown(list_path(first.dataset), 200)
    if not model.is_distiller:
        findings.error(
            key,
            f'{len(without)} of {len(clips)} clips are unlabelled '
            f'({UNLABELLED}), the first in line {without[0].line}. Only a '
            'student with teachers can learn from them; a model that trains '
            'alone needs a label for every clip.',
            path,
        )
    elif len(without) == len(clips) and (
        config['model'].get('label_weight', 1) != 0
    ):
        findings.error(
            key,
            'no clip has a label. Set model.label_weight=0 to train on the '
            'distillation losses alone.',
            path,
        )
