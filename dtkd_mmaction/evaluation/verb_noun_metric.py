"""Accuracies of verbs, nouns and actions."""

from typing import Any, Dict, List, Sequence

import torch
from mmaction.registry import METRICS
from mmengine.evaluator import BaseMetric
from torch import Tensor


@METRICS.register_module()
class VerbNounMetric(BaseMetric):
    """Top-1 and top-5 accuracy of verb, noun and action (EPIC-KITCHENS).

    An action is a verb and a noun; it is correct if both are correct. The
    actions are ranked by the product of the two probabilities.

    Gives ``action/top1``, ``action/top5``, ``verb/top1``, ``verb/top5``,
    ``noun/top1`` and ``noun/top5``, from 0 to 1. ``action/top1`` is the first,
    so ``save_best='auto'`` uses it.

    Source: https://github.com/epic-kitchens/C1-Action-Recognition

    Args:
        class_counts (Sequence[int]): Numbers of verbs V and of nouns N.
        kwargs (dict): Arguments of ``BaseMetric``.

    Example:
        >>> import torch
        >>> from mmaction.registry import METRICS
        >>> metric = METRICS.build(
        ...     dict(type='VerbNounMetric', class_counts=(2, 3))
        ... )
        >>> sample = dict(
        ...     pred_score=torch.tensor([0.9, 0.1, 0.2, 0.5, 0.3]),
        ...     gt_label=torch.tensor([0, 2]),
        ... )
        >>> metric.process(None, [sample])
        >>> accuracies = metric.evaluate(size=1)
        >>> accuracies['verb/top1'], accuracies['noun/top1']
        (1.0, 0.0)
    """

    # Not None, which causes a warning of MMEngine; the names need no prefix.
    default_prefix = ''

    def __init__(
        self, class_counts: Sequence[int] = (97, 300), **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.class_counts = list(class_counts)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Records which predictions of each sample are correct.

        Args:
            data_batch: Not used.
            data_samples (Sequence[dict]): ``pred_score`` (V + N,), the
                probabilities of verbs and then of nouns, and ``gt_label``
                (2,), as :class:`~dtkd_mmaction.heads.VerbNounHead` gives.

        Raises:
            ValueError: If the scores are not V + N.
        """
        scores = torch.stack([s['pred_score'] for s in data_samples]).cpu()
        labels = torch.stack([s['gt_label'] for s in data_samples]).cpu()
        if scores.shape[1:] != (sum(self.class_counts),):
            raise ValueError(
                f'pred_score has the shape {tuple(scores.shape[1:])}; '
                f'val_evaluator.class_counts={tuple(self.class_counts)} wants '
                f'({sum(self.class_counts)},). A VerbNounHead gives that, '
                "with average_clips='prob' in cls_head.head."
            )
        verbs, nouns = scores.double().split(self.class_counts, dim=1)
        hits = count_hits(verbs, nouns, labels)
        names = list(hits)
        for sample_hits in torch.stack(list(hits.values()), dim=1).tolist():
            self.results.append(dict(zip(names, sample_hits)))

    def compute_metrics(self, results: List[dict]) -> Dict[str, float]:
        """Computes the accuracies over all samples."""
        return {
            name: sum(result[name] for result in results) / len(results)
            for name in results[0]
        }


def count_hits(
    verbs: Tensor, nouns: Tensor, labels: Tensor
) -> Dict[str, Tensor]:
    """Returns which predictions of each sample are correct.

    Args:
        verbs (Tensor): Probabilities, (B, V).
        nouns (Tensor): Probabilities, (B, N).
        labels (Tensor): Verb and noun, (B, 2).

    Returns:
        dict[str, Tensor]: Name of the accuracy -> (B,) of bool.
    """
    verb = verbs.topk(min(5, verbs.shape[1]))
    noun = nouns.topk(min(5, nouns.shape[1]))
    verb_hits = verb.indices == labels[:, :1]  # (B, 5), best first
    noun_hits = noun.indices == labels[:, 1:]

    # The five best products are among those of the five best factors.
    products = verb.values[:, :, None] * noun.values[:, None, :]  # (B, 5, 5)
    pair_hits = (verb_hits[:, :, None] & noun_hits[:, None, :]).flatten(1)
    pairs = products.flatten(1).topk(min(5, pair_hits.shape[1])).indices
    return {
        'action/top1': verb_hits[:, 0] & noun_hits[:, 0],
        'action/top5': pair_hits.gather(1, pairs).any(dim=1),
        'verb/top1': verb_hits[:, 0],
        'verb/top5': verb_hits.any(dim=1),
        'noun/top1': noun_hits[:, 0],
        'noun/top5': noun_hits.any(dim=1),
    }
