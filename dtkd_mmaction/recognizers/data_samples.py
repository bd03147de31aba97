"""Reads the labels and the view keys of a batch of data samples."""

from typing import List, Tuple

import torch
from torch import Tensor


def labels_of(data_samples: list, device: torch.device) -> Tensor:
    """Labels of a batch: (B,), (B, parts), or mixed (B, N) in floats."""
    labels = torch.stack([sample.gt_label for sample in data_samples])
    labels = labels.to(device)
    return labels.squeeze(1) if labels.shape[1] == 1 else labels


def view_keys(data_samples: list) -> List[Tuple[int, int]]:
    """Which view of which sample each of a batch is."""
    return [
        (sample.metainfo['sample_idx'], sample.metainfo['view'])
        for sample in data_samples
    ]
