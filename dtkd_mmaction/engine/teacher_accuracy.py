"""Measures what the teachers know about the validation clips."""

import copy
import math
import os.path as osp
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import torch
from mmaction.registry import DATASETS
from mmengine import dist
from mmengine.dataset import pseudo_collate
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from ..datasets.evaluation_pipeline import replace_pipelines
from ..datasets.keyed_views import keyed_generators
from ..distillers.base import BaseDistiller
from ..files import read_json, write_json
from ..recognizers.class_parts import ClassPart
from ..recognizers.clip_view import model_inputs
from ..recognizers.data_samples import labels_of

# A model less than this far on the way from chance to always right is near
# chance, whatever the number of clips.
NEAR_CHANCE = 0.1
MAX_CLIPS = 1000
# In the work directory, and in the folder of a teacher cache.
FILE = 'teacher_accuracy.json'


class Accuracies(NamedTuple):
    """Accuracies of one part of the head.

    Attributes:
        part (str): ``'verb'`` or ``'noun'``; empty for an ordinary head.
        chance (float): Accuracy of guessing, 0 to 1.
        clips (int): Labelled clips that were seen.
        models (dict[str, float]): ``'student'`` and short names of teachers
            -> top-1 accuracy, 0 to 1.
    """

    part: str
    chance: float
    clips: int
    models: Dict[str, float]

    def near_chance(self, name: str) -> bool:
        """Whether a model is within noise of chance, or close to it."""
        noise = math.sqrt(self.chance * (1 - self.chance) / self.clips)
        margin = max(2 * noise, NEAR_CHANCE * (1 - self.chance))
        return self.models[name] < self.chance + margin


def teachers_read(distiller: BaseDistiller) -> List[str]:
    """Returns the short names of the teachers that a loss reads."""
    quantities = distiller.teacher_quantities
    return [name for name in quantities if quantities[name]]


def largest_view(
    distiller: BaseDistiller, names: Sequence[str]
) -> Dict[str, Any]:
    """Returns frames and size that hold the views of some models.

    Args:
        distiller (BaseDistiller): The student and the teachers.
        names (Sequence[str]): ``'student'`` and short names of teachers.
    """
    taps = [
        distiller.student_tap
        if name == 'student'
        else distiller.teachers[name].tap
        for name in names
    ]
    shapes = [tap.shapes['clip'][1:] for tap in taps]  # (T, H, W)
    frames = max(shape[0] for shape in shapes)
    size = max((shape[1:] for shape in shapes), key=lambda s: s[0] * s[1])
    return dict(frames=frames, size=tuple(size))


def evaluation_clips(
    distiller: BaseDistiller, names: Sequence[str], dataset: dict
) -> Dataset:
    """Builds the validation set with clips that some models can take.

    Its own pipeline gives the student's clips. These would be too small for
    a teacher, so they are enlarged to the largest view; every model then
    takes its own view of them, as in training.

    Args:
        distiller (BaseDistiller): The student and the teachers.
        names (Sequence[str]): ``'student'`` and short names of teachers.
        dataset (dict): Config of the validation set; it is not changed.

    Raises:
        ValueError: If the pipeline cannot be fitted.
    """
    dataset = copy.deepcopy(dict(dataset))
    view = largest_view(distiller, names)
    replace_pipelines(dataset, view, one_view=True)
    return DATASETS.build(dataset)


def evenly_spaced(total: int, wanted: int) -> List[int]:
    """Returns at most ``wanted`` of the indices below ``total``."""
    if total <= wanted:
        return list(range(total))
    return [i * total // wanted for i in range(wanted)]


@torch.no_grad()
def measure_accuracies(
    distiller: BaseDistiller,
    names: Sequence[str],
    loader: dict,
    max_clips: int = MAX_CLIPS,
) -> List[Accuracies]:
    """Runs the student or teachers on validation clips, one clip per video.

    Every rank takes its share of the clips. The generators of random numbers
    are left as they were, so a training with this measurement is the training
    without it.

    Args:
        distiller (BaseDistiller): The student and the teachers.
        names (Sequence[str]): ``'student'`` and short names of teachers.
        loader (dict): ``val_dataloader`` of the run.
        max_clips (int): So many evenly spaced clips are taken at most.
            Defaults to 1000, with which a standard error is at most 1.6
            points.

    Returns:
        list[Accuracies]: One per part of the head; empty where no clip has a
            label.
    """
    dataset = evaluation_clips(distiller, names, loader['dataset'])
    indices = evenly_spaced(len(dataset), max_clips)
    share = indices[dist.get_rank() :: dist.get_world_size()]
    device = next(distiller.student.parameters()).device
    # A row per part: labelled clips, then the right answers of each model.
    counts = torch.zeros(len(distiller.parts), 1 + len(names), device=device)
    training = distiller.student.training
    distiller.student.eval()
    try:
        with keyed_generators((0,)):
            for batch in DataLoader(
                Subset(dataset, share),
                loader.get('batch_size', 1),
                num_workers=loader.get('num_workers', 0),
                collate_fn=pseudo_collate,
            ):
                batch = distiller.data_preprocessor(batch, training=False)
                labels = labels_of(batch['data_samples'], device)
                for column, name in enumerate(names, 1):
                    logits = logits_of(distiller, name, batch['inputs'])
                    counts += right_answers(
                        logits, labels, distiller.parts, column, counts
                    )
    finally:
        distiller.student.train(training)
    dist.all_reduce(counts)
    return [
        Accuracies(
            part.name,
            1 / part.count,
            int(row[0]),
            dict(zip(names, (row[1:] / row[0]).tolist())),
        )
        for part, row in zip(distiller.parts, counts)
        if row[0]
    ]


def logits_of(distiller: BaseDistiller, name: str, clips: Tensor) -> Tensor:
    """Returns the logits of ``'student'`` or of a teacher, (B, N)."""
    if name != 'student':
        return distiller.teachers[name](clips).logits
    student = distiller.student
    inputs = model_inputs(student, distiller.student_view, clips)
    with distiller.student_tap.record(inputs) as recording:
        student.extract_feat(inputs, stage='head')
    return recording.logits


def right_answers(
    logits: Tensor,
    labels: Tensor,
    parts: List[ClassPart],
    column: int,
    counts: Tensor,
) -> Tensor:
    """Counts one batch of one model.

    Args:
        logits (Tensor): (B, N).
        labels (Tensor): (B,) or (B, parts); negative ones are not counted.
        parts (list[ClassPart]): Parts of the head.
        column (int): Column of the model; the first one (1) also counts the
            labelled clips.
        counts (Tensor): Has the shape of what is returned.

    Returns:
        Tensor: (parts, 1 + models).
    """
    found = torch.zeros_like(counts)
    for row, part in enumerate(parts):
        wanted = part.labels_of(labels)
        if column == 1:
            found[row, 0] = (wanted >= 0).sum()
        answers = part.logits_of(logits).argmax(dim=1)
        found[row, column] = (answers == wanted).sum()
    return found


def describe(accuracies: List[Accuracies]) -> str:
    """Returns a sentence per part of the head."""
    lines = []
    for found in accuracies:
        models = ', '.join(
            f'{name} {100 * value:.1f} %'
            for name, value in found.models.items()
        )
        part = f'{found.part}: ' if found.part else ''
        lines.append(
            f'{part}top-1 before training on {found.clips} validation clips '
            f'(chance is {100 * found.chance:.1f} %): {models}.'
        )
    return '\n'.join(lines)


def read_accuracies(folder: str) -> Optional[List[Accuracies]]:
    """Reads the file of :func:`write_accuracies`; None if there is none.

    Raises:
        ValueError: If it is damaged.
    """
    path = osp.join(folder, FILE)
    if not osp.exists(path):
        return None
    parts = read_json(path, keys=['parts'])['parts']
    try:
        return [Accuracies(**part) for part in parts]
    except TypeError as error:
        raise ValueError(
            f'{path} is not a file of teacher accuracies ({error}). Remove '
            'it; it is not needed.'
        ) from error


def write_accuracies(folder: str, accuracies: List[Accuracies]) -> None:
    """Writes accuracies to a folder."""
    parts = [found._asdict() for found in accuracies]
    write_json(osp.join(folder, FILE), dict(parts=parts))
