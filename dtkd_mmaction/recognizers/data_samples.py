"""Reads labels, view keys and indices of a batch of data samples."""

from typing import List, Optional, Tuple

import torch
from torch import Tensor


def labels_of(data_samples: list, device: torch.device) -> Tensor:
    """Returns the labels: (B,), (B, parts), or mixed (B, N) in floats."""
    labels = torch.stack([sample.gt_label for sample in data_samples])
    labels = labels.to(device)
    return labels.squeeze(1) if labels.shape[1] == 1 else labels


def mark_unlabelled(data_samples: list) -> None:
    """Records in every sample whether it has a label.

    A label of -1 means that the clip has none. This happens while the labels
    are on the CPU, so that no training step waits for a GPU.

    Args:
        data_samples (list): B samples with labels.
    """
    for sample in data_samples:
        if 'labelled' not in sample.metainfo and 'gt_label' in sample:
            labelled = bool((sample.gt_label >= 0).all())
            sample.set_metainfo(dict(labelled=labelled))


def labelled_rows(data_samples: list) -> Optional[List[int]]:
    """Returns the rows of a batch that have a label, None for all of them.

    Args:
        data_samples (list): B samples after :func:`mark_unlabelled`; a
            sample that was not marked counts as labelled.
    """
    rows = [
        i
        for i, sample in enumerate(data_samples)
        if sample.metainfo.get('labelled', True)
    ]
    return None if len(rows) == len(data_samples) else rows


def view_keys(data_samples: list) -> List[Tuple[int, int]]:
    """Returns (sample index, view) of every sample of a batch."""
    return [
        (sample.metainfo['sample_idx'], sample.metainfo['view'])
        for sample in data_samples
    ]


def sample_ids(data_samples: list, device: torch.device) -> Tensor:
    """Returns the indices of the samples in the data set, (B,).

    Raises:
        KeyError: If the pipeline does not pack them.
    """
    try:
        ids = [sample.metainfo['sample_idx'] for sample in data_samples]
    except KeyError as error:
        raise KeyError(
            'A loss reads sample_ids, but the samples carry none: use '
            "dataset.type='CheckedVideoDataset', or let train_pipeline end "
            "in dict(type='PackActionInputs', meta_keys=('sample_idx',))."
        ) from error
    return torch.tensor(ids, device=device)
