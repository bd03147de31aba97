"""Predictions of both students for every validation clip."""

import glob
from typing import Dict, List, NamedTuple

import numpy as np
import torch
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
    """What both students say about the validation clips.

    Attributes:
        clips (list[Tensor]): Clips as the models see them, each
            ``(1, 3, T, H, W)`` uint8.
        labels (np.ndarray): Label per clip, ``(N,)``.
        scores (dict[str, np.ndarray]): Run -> probabilities, ``(N, C)``.
    """

    clips: List[torch.Tensor]
    labels: np.ndarray
    scores: Dict[str, np.ndarray]

    def right(self, run: str) -> np.ndarray:
        """Returns for every clip whether a student recognises it."""
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
    scores = {}
    for run in STUDENTS:
        model = build_recognizer(config, 'model').eval()
        load_weights(model, student_checkpoint(out, run), 'model')
        found = []
        for start in range(0, len(samples), BATCH):
            batch = pseudo_collate(samples[start : start + BATCH])
            found += model.test_step(batch)
        scores[run] = np.stack([s.pred_score.numpy() for s in found])
    return Predictions(
        [sample['inputs'] for sample in samples],
        np.array([int(s['data_samples'].gt_label) for s in samples]),
        scores,
    )
