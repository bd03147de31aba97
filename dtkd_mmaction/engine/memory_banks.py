"""Compares the memory banks of losses with the training set."""

from typing import Any

import torch.nn as nn
from mmengine.model import is_model_wrapper

from ..distillers import BaseDistiller


def check_memory_banks(model: nn.Module, dataset: Any) -> None:
    """Checks that losses with one row per clip know the number of clips.

    Rows that no clip fills stay random and would serve as negatives, as in
    ``CRDLoss``.

    Args:
        model (nn.Module): Model of the runner, wrapped or not.
        dataset: The training set, in any number of wrappers.

    Raises:
        ValueError: If ``num_samples`` of a loss differs from the number of
            clips.
    """
    model = model.module if is_model_wrapper(model) else model
    if not isinstance(model, BaseDistiller):
        return
    while hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    for name, loss in model.losses.losses.items():
        rows = getattr(loss, 'num_samples', None)
        if rows is not None and rows != len(dataset):
            raise ValueError(
                f'model.losses.{name}.num_samples={rows}: the training set '
                f'has {len(dataset)} clips. '
                + (
                    'The other rows of the memory bank would stay random and '
                    'serve as negatives. '
                    if rows > len(dataset)
                    else 'The last clips would have no row. '
                )
                + f'Set it to {len(dataset)}.'
            )
