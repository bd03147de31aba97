"""Accuracy, agreement and speed of one model in several runtimes."""

import copy
import time
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Optional, Tuple

import numpy as np
import torch
import torch.nn as nn
from mmaction.structures import ActionDataSample
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from torch import Tensor

from .clip_classifier import as_frames, class_counts, clip_rows
from .runtimes import Runtime


@dataclass
class Comparison:
    """One runtime compared with the stock model in PyTorch.

    Attributes:
        name (str): The runtime.
        path (str): Its file.
        metrics (dict[str, float]): Results of the evaluator, from 0 to 1.
        agreement (float): Share of the videos to which it gives the same
            first class as the stock model.
        difference (float): Largest difference of a probability.
        latency (list[float]): Seconds per row, or per batch of a runtime
            with a fixed one.
        throughput (float): Rows per second, in batches.

    Example:
        >>> from dtkd_mmaction.deployment import Comparison
        >>> found = Comparison(
        ...     'ONNX Runtime', 'student.onnx', latency=[0.03, 0.01, 0.02]
        ... )
        >>> found.median
        0.02
    """

    name: str
    path: str
    metrics: Dict[str, float] = field(default_factory=dict)
    agreement: float = float('nan')
    difference: float = 0.0
    latency: List[float] = field(default_factory=list)
    throughput: float = float('nan')

    @property
    def accuracy(self) -> float:
        """The evaluator's first metric."""
        return next(iter(self.metrics.values()), float('nan'))

    @property
    def median(self) -> float:
        """Median of the latency."""
        return float(np.median(self.latency))

    @property
    def p95(self) -> float:
        """95th percentile of the latency."""
        return float(np.percentile(self.latency, 95))


def compare(
    recognizer: nn.Module,
    runtimes: List[Runtime],
    samples: Iterable[dict],
    clip_shape: Tuple[int, ...],
    normalise: bool = False,
    softmax: bool = False,
    evaluator: Optional[Any] = None,
    rounds: int = 20,
    batch: int = 4,
) -> List[Comparison]:
    """Compares runtimes with the stock model on real videos.

    Every video goes through the stock model's own ``test_step`` and through
    every runtime. Then the runtimes are timed on rows of the last video, in
    turn, round after round, so that changes of the machine's speed cancel.

    Args:
        recognizer (nn.Module): The stock model in eval mode.
        runtimes (list[Runtime]): Built with these ``normalise``, ``softmax``.
        samples (iterable of dict): What a stock pipeline gives per video:
            ``inputs`` and ``data_samples``.
        clip_shape (tuple[int, ...]): As in
            :func:`~dtkd_mmaction.deployment.export_onnx`.
        normalise (bool): Whether the runtimes take ``uint8`` frames.
        softmax (bool): Whether they return probabilities.
        evaluator (dict or list, optional): As ``val_evaluator`` in a config.
            Defaults to ``AccMetric``.
        rounds (int): Timed calls per runtime. Defaults to 20.
        batch (int): Batch for the throughput of runtimes that take any.
            Defaults to 4.

    Returns:
        list[Comparison]: One per runtime, in order.

    Raises:
        ValueError: If there are no samples, or their clips have another
            shape than the graph.
    """
    results = [Comparison(r.name, str(r.path)) for r in runtimes]
    evaluators = [
        Evaluator(copy.deepcopy(evaluator or dict(type='AccMetric')))
        for _ in runtimes
    ]
    agreed = np.zeros(len(runtimes))
    count, rows = 0, None
    for sample in samples:
        expected = stock_scores(recognizer, sample)
        rows = runtime_rows(recognizer, sample, clip_shape, normalise)
        count += 1
        for index, runtime in enumerate(runtimes):
            answer = video_answer(
                recognizer,
                torch.from_numpy(runtime(rows)),
                softmax,
                sample['data_samples'],
            )
            found = answer.pred_score
            agreed[index] += torch.equal(
                _first_classes(found, recognizer),
                _first_classes(expected, recognizer),
            )
            difference = float((found - expected).abs().max())
            results[index].difference = max(
                results[index].difference, difference
            )
            evaluators[index].process([answer])
    if rows is None:
        raise ValueError('There are no videos to compare the runtimes on.')
    for result, metric, same in zip(results, evaluators, agreed):
        result.metrics = metric.evaluate(count)
        result.agreement = same / count
    for result, seconds in zip(results, _times(runtimes, rows, 1, rounds)):
        result.latency = seconds
    in_batches = _times(runtimes, rows, batch, max(1, rounds // 5))
    for runtime, result, seconds in zip(runtimes, results, in_batches):
        size = runtime.batch or batch
        result.throughput = size / float(np.median(seconds))
    return results


@torch.no_grad()
def stock_scores(recognizer: nn.Module, sample: dict) -> Tensor:
    """Returns the stock model's probabilities (N,) for one video."""
    sample = dict(
        inputs=sample['inputs'],
        data_samples=copy.deepcopy(sample['data_samples']),
    )
    (answer,) = recognizer.test_step(pseudo_collate([sample]))
    return as_probabilities(recognizer.cls_head, answer.pred_score)


def runtime_rows(
    recognizer: nn.Module,
    sample: dict,
    clip_shape: Tuple[int, ...],
    normalise: bool,
) -> np.ndarray:
    """Returns the rows of one video for the runtimes.

    Args:
        recognizer (nn.Module): Its data preprocessor normalises.
        sample (dict): ``inputs`` (V, 3, T, H, W) or (M, 3, H, W), ``uint8``.
        clip_shape (tuple[int, ...]): Shape that a row must have.
        normalise (bool): Whether the runtimes take ``uint8`` frames.

    Raises:
        ValueError: If the clips of the video have another shape.
    """
    inputs = sample['inputs']
    folds_frames = inputs.ndim == 4
    rows_are = clip_rows(inputs, clip_shape[0])
    if tuple(rows_are.shape[1:]) != tuple(clip_shape):
        raise ValueError(
            f'The pipeline gives clips of {tuple(rows_are.shape[1:])} for '
            f'one video and of {tuple(clip_shape)} for another. Put a '
            'CenterCrop at its end.'
        )
    if normalise:
        return as_frames(rows_are, folds_frames).numpy()
    data = dict(inputs=[inputs], data_samples=[sample['data_samples']])
    clips = recognizer.data_preprocessor(data, training=False)['inputs'][0]
    return clip_rows(clips, clip_shape[0]).contiguous().numpy()


def video_answer(
    recognizer: nn.Module,
    rows: Tensor,
    softmax: bool,
    data_sample: ActionDataSample,
) -> ActionDataSample:
    """Averages the views of a video as the stock model does.

    Args:
        recognizer (nn.Module): The stock model.
        rows (Tensor): Logits or probabilities, (V, N).
        softmax (bool): Whether they are probabilities.
        data_sample (ActionDataSample): It has the label.

    Returns:
        ActionDataSample: A copy with ``pred_score``, probabilities (N,), and
            ``pred_label``.
    """
    head = recognizer.cls_head
    answer = copy.deepcopy(data_sample)
    if softmax:
        answer.set_pred_score(rows.mean(dim=0))
    else:
        head.predict_by_feat(rows, [answer])
        answer.set_pred_score(as_probabilities(head, answer.pred_score))
    answer.set_pred_label(_first_classes(answer.pred_score, recognizer))
    return answer


def as_probabilities(head: nn.Module, scores: Tensor) -> Tensor:
    """Turns a stock head's ``pred_score`` into probabilities (N,).

    With ``average_clips='prob'`` they are that already. Otherwise they are
    logits, and with ``None`` there is one row per view.
    """
    parts = scores.split(class_counts(head), dim=-1)
    if head.average_clips != 'prob' and len(parts) == 1:
        scores = scores.softmax(dim=-1)
    return scores.mean(dim=0) if scores.ndim == 2 else scores


def _first_classes(scores: Tensor, recognizer: nn.Module) -> Tensor:
    parts = scores.split(class_counts(recognizer.cls_head))
    return torch.stack([part.argmax() for part in parts])


def _times(
    runtimes: List[Runtime], rows: np.ndarray, batch: int, rounds: int
) -> List[List[float]]:
    """Returns the seconds of each call, per runtime."""
    seconds: List[List[float]] = [[] for _ in runtimes]
    for round_ in range(rounds + 1):
        for runtime, own in zip(runtimes, seconds):
            size = runtime.batch or batch
            clips = np.resize(rows, (size, *rows.shape[1:]))
            started = time.perf_counter()
            runtime.run(clips)
            if round_:  # the first one allocates memory
                own.append(time.perf_counter() - started)
    return seconds
