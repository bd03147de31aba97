"""Predictions of both students for every validation clip."""

import glob
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Tuple

import numpy as np
import torch
import torch.nn as nn
from mmaction.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from dtkd_mmaction.recognizers.model_spec import (
    build_recognizer,
    load_weights,
)

from .trainings import config_of

STUDENTS = ('student_alone', 'dtkd')
BATCH = 50


class Predictions(NamedTuple):
    """Predictions of both students for the validation clips.

    Attributes:
        clips (list[Tensor]): Input clips of the models, each ``(1, 3, T, H,
            W)`` uint8.
        labels (np.ndarray): Label per clip, ``(N,)``.
        scores (dict[str, np.ndarray]): Run -> probabilities, ``(N, C)``.
    """

    clips: List[torch.Tensor]
    labels: np.ndarray
    scores: Dict[str, np.ndarray]

    def right(self, run: str) -> np.ndarray:
        """Returns for every clip whether a student predicts it correctly."""
        return self.scores[run].argmax(1) == self.labels

    def accuracy_per_class(self, run: str) -> List[float]:
        """Returns a student's accuracy on the clips of each class."""
        right = self.right(run)
        return [
            float(right[self.labels == label].mean())
            for label in np.unique(self.labels)
        ]


def student_checkpoint(out: str, run: str) -> str:
    """Returns the stock checkpoint of a student's run."""
    prefix = 'student_' if run == 'dtkd' else ''
    return sorted(glob.glob(f'{out}/{run}/{prefix}epoch_*.pth'))[-1]


@torch.no_grad()
def ask_models(
    models: Mapping[Any, nn.Module], batches: Iterable[dict]
) -> Tuple[np.ndarray, Dict[Any, np.ndarray]]:
    """Asks several models about the same clips.

    Args:
        models (Mapping[Any, nn.Module]): Recognizers in eval mode, by key.
        batches (Iterable[dict]): Clips as a data loader gives them.

    Returns:
        tuple[np.ndarray, dict]: Labels (N,), and key -> scores (N, C).

    Raises:
        ValueError: If a clip has several labels.
    """
    labels: List[int] = []
    scores: Dict[Any, List[np.ndarray]] = {key: [] for key in models}
    for batch in batches:
        for sample in batch['data_samples']:
            if sample.gt_label.numel() != 1:
                raise ValueError('The clips have several labels each.')
            labels.append(int(sample.gt_label))
        for key, model in models.items():
            found = model.test_step(batch)
            scores[key] += [s.pred_score.cpu().numpy() for s in found]
    return np.array(labels), {k: np.stack(v) for k, v in scores.items()}


def predict_clips(data: str, out: str) -> Predictions:
    """Asks both trained students about all validation clips.

    Args:
        data (str): Folder of the clips.
        out (str): Folder of the runs.
    """
    init_default_scope('mmaction')
    # The demo has said which checkpoints these are.
    MMLogger.get_current_instance().setLevel('WARNING')
    config = Config.fromfile(config_of('student_alone'))
    config.val_dataloader.dataset.update(
        ann_file=f'{data}/demo_val_split_1_videos.txt',
        data_prefix=dict(video=f'{data}/videos'),
    )
    dataset = DATASETS.build(config.val_dataloader.dataset)
    samples = [dataset[i] for i in range(len(dataset))]
    models = {}
    for run in STUDENTS:
        models[run] = build_recognizer(config, 'model').eval()
        load_weights(models[run], student_checkpoint(out, run), 'model')
    starts = range(0, len(samples), BATCH)
    batches = (pseudo_collate(samples[i : i + BATCH]) for i in starts)
    labels, scores = ask_models(models, batches)
    return Predictions([s['inputs'] for s in samples], labels, scores)
