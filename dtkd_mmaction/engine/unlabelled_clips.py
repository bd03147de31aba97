"""Checks a training list that contains unlabelled clips."""

from typing import Any

import torch.nn as nn
from mmengine.model import is_model_wrapper

from ..datasets.annotation_list import UNLABELLED
from ..distillers import BaseDistiller


def count_unlabelled(dataset: Any) -> int:
    """Returns how many clips of a data set have the label -1.

    Args:
        dataset: A training set, in any number of wrappers. One without
            ``get_data_info`` counts as labelled.
    """
    while hasattr(dataset, 'dataset') and not hasattr(
        dataset, 'get_data_info'
    ):
        dataset = dataset.dataset
    if not hasattr(dataset, 'get_data_info'):
        return 0
    return sum(
        dataset.get_data_info(i).get('label') == UNLABELLED
        for i in range(len(dataset))
    )


def allow_unlabelled_clips(model: nn.Module, dataset: Any) -> None:
    """Tells a distiller that some clips have no label, before training.

    Args:
        model (nn.Module): Model of the runner, wrapped or not.
        dataset: The training set.

    Raises:
        ValueError: If the model needs labels that the list does not have.
    """
    unlabelled = count_unlabelled(dataset)
    if not unlabelled:
        return
    model = model.module if is_model_wrapper(model) else model
    found = f'{unlabelled} of the {len(dataset)} training clips have the label'
    if not isinstance(model, BaseDistiller):
        raise ValueError(
            f'train_dataloader.dataset: {found} -1 (unlabelled), but '
            f'model.type={type(model).__name__!r} learns from labels alone. '
            'Remove these clips from the list, or train with a distiller.'
        )
    if unlabelled == len(dataset) and model.label_weight:
        raise ValueError(
            f'train_dataloader.dataset: {found} -1 (unlabelled), so there is '
            'no label loss. Set model.label_weight=0 to distil without '
            'labels, or add labelled clips.'
        )
    model.has_unlabelled_clips = True
