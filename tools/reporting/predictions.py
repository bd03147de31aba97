"""Asks trained students about the clips of a list."""

import copy
import json
import os
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
import torch
import torch.nn as nn
from demonstration.predictions import ask_models
from inspection import innermost, load_exactly
from mmaction.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from dtkd_mmaction.recognizers.model_spec import (
    build_recognizer,
    forget_pretraining,
)

from .roles import student_of
from .runs import TrainedRun

BATCH = 16


class Answers(NamedTuple):
    """Probabilities of several students for the same clips.

    Attributes:
        names (list[str]): File of each clip, as in the list.
        labels (np.ndarray): (n,)
        scores (np.ndarray): (S, n, C), one row per run, in their order.
    """

    names: List[str]
    labels: np.ndarray
    scores: np.ndarray

    def right(self) -> np.ndarray:
        """Returns (S, n): whether each run recognises each clip."""
        return self.scores.argmax(2) == self.labels


def build_student(run: TrainedRun) -> nn.Module:
    """Builds the deployable model of a run with its weights, in eval mode.

    Raises:
        ValueError: If its checkpoint is missing or does not fit.
    """
    config, state = student_of(run)
    config = copy.deepcopy(config)
    forget_pretraining(config.model)
    model = build_recognizer(config, 'model')
    load_exactly(model, state, run.checkpoint)
    return model.to(get_device()).eval()


def list_dataset(config: Config, split: str) -> Dataset:
    """Builds the data set with which a run was validated or tested.

    Raises:
        ValueError: If it cannot be read.
    """
    loader = config.get(f'{split}_dataloader')
    if not loader:
        raise ValueError(f'The config has no {split}_dataloader.')
    listed = innermost(loader.dataset)
    ann_file = listed.get('ann_file', '')
    if not os.path.isfile(ann_file):
        raise ValueError(
            f'The list of clips {ann_file} is not there any more. Relative '
            f'paths are looked up in {os.getcwd()} and in the project.'
        )
    return DATASETS.build(loader.dataset)


def clip_names(dataset: Any) -> List[str]:
    """Returns the file of each clip of a data set."""
    infos = map(dataset.get_data_info, range(len(dataset)))
    return [i.get('filename') or i.get('frame_dir', '') for i in infos]


def ask_runs(
    runs: Sequence[TrainedRun], split: str
) -> Tuple[Answers, Dataset]:
    """Asks all runs about the list of the first one.

    Every run sees the clips through its own pipeline; runs with the same
    pipeline share the decoded clips.

    Args:
        runs (Sequence[TrainedRun]): One at least.
        split (str): ``'val'`` or ``'test'``.

    Returns:
        tuple[Answers, Dataset]: And the data set of the first run.

    Raises:
        ValueError: If a clip or a model cannot be read, or if the runs have
            lists of different clips.
    """
    by_data: Dict[str, List[int]] = {}
    for i, run in enumerate(runs):
        loader = run.config.get(f'{split}_dataloader') or {}
        key = json.dumps(
            Config(dict(loader)).to_dict().get('dataset'),
            sort_keys=True,
            default=str,
        )
        by_data.setdefault(key, []).append(i)
    scores: Dict[int, np.ndarray] = {}
    first = first_names = labels = None
    for indices in by_data.values():
        dataset = list_dataset(runs[indices[0]].config, split)
        names = clip_names(dataset)
        if first is None:
            first, first_names = dataset, names
        elif names != first_names:
            raise ValueError(
                f'{runs[indices[0]].work_dir} was validated on other clips '
                f'than {runs[0].work_dir}, so they cannot be compared.'
            )
        models = {i: build_student(runs[i]) for i in indices}
        loader = DataLoader(dataset, BATCH, collate_fn=pseudo_collate)
        batches = track(loader, 'Asking the students', transient=True)
        labels, found = ask_models(models, batches)
        scores.update(found)
    stacked = np.stack([probabilities(scores[i]) for i in range(len(runs))])
    return Answers(first_names, labels, stacked), first


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Returns scores that sum to one.

    Args:
        scores (np.ndarray): (n, C), probabilities or, of a head whose
            ``average_clips`` is ``'score'``, logits.
    """
    sums = scores.sum(1)
    if scores.min() >= 0 and np.allclose(sums, 1, atol=1e-3):
        return scores
    return torch.from_numpy(scores).softmax(1).numpy()
