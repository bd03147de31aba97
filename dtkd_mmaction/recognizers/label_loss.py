"""Restricts the label losses of a stock recognizer to labelled clips."""

from contextlib import contextmanager
from typing import Dict, Iterator, List, Optional

import torch
import torch.nn as nn
from mmengine import dist
from torch import Tensor

from .data_samples import labelled_rows


@contextmanager
def label_loss_of(
    recognizer: nn.Module, rows: Optional[List[int]], key: str
) -> Iterator[None]:
    """Lets ``recognizer.loss`` compute its label losses for some rows only.

    The forward pass still sees the whole batch. The label losses are means
    over the labelled clips, and 0 for a batch without any.

    Args:
        recognizer (nn.Module): A stock recognizer.
        rows (list[int], optional): Rows of the batch that have a label. None
            means all of them, and nothing is changed.
        key (str): Config key of the recognizer, for messages.

    Raises:
        ValueError: If a part of the recognizer other than its head reads
            labels.
    """
    if rows is None:
        yield
        return
    neck = getattr(recognizer, 'neck', None)
    if getattr(neck, 'aux_head', None) is not None:
        raise ValueError(
            f'{key}: its neck has an auxiliary head, which reads the label of '
            'every clip, but the training list holds unlabelled clips (label '
            '-1). Set neck.aux_head_cfg=None in cfg_options or remove the '
            'unlabelled clips.'
        )
    head = recognizer.cls_head
    stock = head.loss_by_feat

    def loss_by_feat(cls_scores, data_samples, **kwargs):
        if not isinstance(cls_scores, Tensor):
            raise ValueError(
                f'{key}: a {type(head).__name__} gives several score '
                'tensors, so unlabelled clips (label -1) cannot be left out '
                'of its loss. Remove them from the training list.'
            )
        if not rows:
            return dict(loss_cls=cls_scores.sum() * 0)
        return stock(
            cls_scores[rows], [data_samples[i] for i in rows], **kwargs
        )

    head.loss_by_feat = loss_by_feat
    try:
        yield
    finally:
        del head.loss_by_feat


def mean_over_ranks(
    losses: Dict[str, Tensor], labelled: int, device: torch.device
) -> Dict[str, Tensor]:
    """Scales means over this rank's labelled clips to one mean over all.

    DistributedDataParallel averages gradients over ranks, which is the mean
    over all clips only if every rank has equally many. Every rank must call
    this function.

    Args:
        losses (dict[str, Tensor]): Losses and monitors of this rank.
        labelled (int): Number of labelled clips on this rank.
        device (torch.device): Device of the batch.

    Returns:
        dict[str, Tensor]: The same, losses scaled.
    """
    if dist.get_world_size() == 1:
        return losses
    total = torch.tensor(float(labelled), device=device)
    dist.all_reduce(total)
    factor = labelled * dist.get_world_size() / total.clamp(min=1)
    return {
        name: value * factor if 'loss' in name else value
        for name, value in losses.items()
    }


def label_losses(
    recognizer: nn.Module,
    inputs: Tensor,
    data_samples: list,
    key: str,
    over_ranks: bool,
) -> Dict[str, Tensor]:
    """Computes a recognizer's stock losses on the labelled clips of a batch.

    Args:
        recognizer (nn.Module): A stock recognizer.
        inputs (Tensor): Its normalised clips, B of them.
        data_samples (list): B samples.
        key (str): Config key of the recognizer, for messages.
        over_ranks (bool): Whether the training set has unlabelled clips, so
            that ranks can have different numbers of labels.

    Returns:
        dict[str, Tensor]: Stock losses and monitors.
    """
    rows = labelled_rows(data_samples)
    with label_loss_of(recognizer, rows, key):
        losses = recognizer.loss(inputs, data_samples)
    if over_ranks:
        labelled = len(data_samples if rows is None else rows)
        losses = mean_over_ranks(losses, labelled, inputs.device)
    return losses
