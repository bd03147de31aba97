"""Asks the teachers of a distilled student about some clips."""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from inspection import ask_student, distiller_of, load_exactly
from mmengine.dataset import pseudo_collate
from rich.progress import track
from show_masks import check, draw, look
from torch.utils.data import Dataset

from dtkd_mmaction.distillers import BaseDistiller
from dtkd_mmaction.losses.datw import DATWLoss, datw_weights
from dtkd_mmaction.recognizers.model_spec import checkpoint_state_dict

from .pictures import figure_picture
from .roles import read_weights
from .runs import TrainedRun

BATCH = 8


class Mask(NamedTuple):
    """The residual and the masks of one clip.

    Attributes:
        index (int): Place of the clip in the list.
        picture (str): Data URI.
        kept (float): Fraction of positions that the loss compares.
    """

    index: int
    picture: str
    kept: float


class Taught(NamedTuple):
    """Outputs of the teachers for some clips.

    Attributes:
        labels (np.ndarray): (n,)
        right (dict[str, np.ndarray]): Teacher -> whether it is right, (n,).
        weights (dict[str, np.ndarray]): Teacher -> its weight (Eq. 6), (n,);
            empty if no loss weights them.
        trust (dict[str, float]): Teacher -> factor of its score at the end
            of the training; empty if it has none.
    """

    labels: np.ndarray
    right: Dict[str, np.ndarray]
    weights: Dict[str, np.ndarray]
    trust: Dict[str, float]


def build(run: TrainedRun) -> BaseDistiller:
    """Builds the distiller of a run with its teachers and its weights.

    Raises:
        ValueError, OSError: If a part is missing.
    """
    distiller = distiller_of(run.config, run.work_dir)
    distiller.teachers  # noqa: B018  (a missing checkpoint is an error now)
    state = checkpoint_state_dict(read_weights(run.checkpoint))
    load_exactly(distiller, state, run.checkpoint)
    return distiller


def choose_evenly(labels: Sequence[int], number: int) -> List[int]:
    """Chooses clips so that all classes have about as many.

    Args:
        labels (Sequence[int]): Of all clips.
        number (int): How many at most.

    Returns:
        list[int]: Their places in the list, in order.
    """
    seen: Dict[int, int] = {}
    ranked = []
    for index, label in enumerate(labels):
        seen[label] = seen.get(label, 0) + 1
        ranked.append((seen[label], index))
    return sorted(index for _, index in sorted(ranked)[:number])


@torch.no_grad()
def ask_teachers(
    distiller: BaseDistiller,
    run: TrainedRun,
    dataset: Dataset,
    labels: np.ndarray,
    indices: Sequence[int],
) -> Taught:
    """Runs teachers and student on clips of a list, as training sees them.

    Args:
        distiller (BaseDistiller): From :func:`build`.
        run (TrainedRun): Its run.
        dataset (Dataset): Gives clips as the models share them.
        labels (np.ndarray): Labels of the whole list.
        indices (Sequence[int]): Clips to use.
    """
    loss = weighting_loss(distiller)
    names = list(distiller.teachers)
    trust = last_trust(run, names)
    right: Dict[str, List[bool]] = {name: [] for name in names}
    weights: List[torch.Tensor] = []
    labels = labels[list(indices)]
    starts = range(0, len(indices), BATCH)
    for start in track(starts, 'Asking the teachers', transient=True):
        samples = [dataset[i] for i in indices[start : start + BATCH]]
        batch = distiller.data_preprocessor(pseudo_collate(samples))
        clips = batch['inputs']  # (B, 1, 3, T, H, W)
        logits = [distiller.teachers[name](clips).logits for name in names]
        own = labels[start : start + BATCH]
        for name, values in zip(names, logits):
            right[name] += (values.argmax(1).cpu().numpy() == own).tolist()
        if loss is not None:
            weights.append(
                datw_weights(
                    ask_student(distiller, clips).logits,
                    logits,
                    trust=logits[0].new_tensor(list(trust.values()))
                    if trust
                    else None,
                    **loss.weight_options,
                ).cpu()
            )
    columns = torch.cat(weights).numpy().T if weights else []
    return Taught(
        labels,
        {name: np.array(values) for name, values in right.items()},
        dict(zip(names, columns)),
        trust,
    )


def weighting_loss(distiller: BaseDistiller) -> Optional[DATWLoss]:
    """Returns the loss that weights the teachers, if there is one."""
    found = [m for m in distiller.modules() if isinstance(m, DATWLoss)]
    return found[0] if found else None


def last_trust(run: TrainedRun, names: Sequence[str]) -> Dict[str, float]:
    """Returns the last logged trust in each teacher; empty if none is."""
    for record in reversed(run.log.training):
        if all(f'trust/{name}' in record for name in names):
            return {name: record[f'trust/{name}'] for name in names}
    return {}


def mask_pictures(
    distiller: BaseDistiller,
    run: TrainedRun,
    dataset: Dataset,
    clips: Sequence[Tuple[int, str]],
) -> List[Mask]:
    """Draws the residual of the teachers and its masks.

    Args:
        distiller (BaseDistiller): From :func:`build`.
        run (TrainedRun): Its run.
        dataset (Dataset): Gives clips as the models share them.
        clips (Sequence[tuple[int, str]]): Places in the list, and titles.

    Raises:
        ValueError: If this distiller has no masks.
    """
    check(distiller, run.checkpoint)
    masks = []
    for index, title in clips:
        picture = look(distiller, pseudo_collate([dataset[index]]))
        figure = draw(picture, title, with_prediction=True)
        kept = float(picture.masks['kept'].mean())
        masks.append(Mask(index, figure_picture(figure), kept))
        plt.close(figure)
    return masks
