"""Scores of the views of a video, averaged and ranked, in NumPy."""

from typing import Any, Dict, List, Optional, Sequence

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns probabilities over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def average_views(
    rows: np.ndarray,
    average: str,
    class_counts: Sequence[int],
    probabilities: bool = False,
) -> np.ndarray:
    """Averages the views of a video as MMAction2's heads do.

    Args:
        rows (np.ndarray): Scores per view, (V, N).
        average (str): ``'prob'`` averages probabilities, ``'score'`` logits.
        class_counts (Sequence[int]): Classes per question, N in total.
        probabilities (bool): Whether ``rows`` are probabilities. Defaults to
            False: logits.

    Returns:
        np.ndarray: Probabilities (N,), with the sum one per question.
    """
    if probabilities:
        return rows.mean(axis=0)
    ends = np.cumsum(class_counts)[:-1]
    parts = []
    for logits in np.split(rows, ends, axis=1):
        if average == 'score':
            logits = logits.mean(axis=0, keepdims=True)
        parts.append(softmax(logits).mean(axis=0))
    return np.concatenate(parts)


def top_classes(
    scores: np.ndarray,
    count: int,
    names: Optional[List[str]],
    class_counts: Sequence[int],
) -> List[Dict[str, Any]]:
    """Returns the most probable classes, best first, of each question.

    Returns:
        list[dict]: ``label`` (int), ``name`` and ``score``; with several
            questions (verb and noun) also ``question``, from 0.
    """
    found: List[Dict[str, Any]] = []
    start = 0
    for question, size in enumerate(class_counts):
        own = scores[start : start + size]
        for label in np.argsort(-own, kind='stable')[:count].tolist():
            name = names[start + label] if names else str(label)
            entry = dict(label=label, name=name, score=float(own[label]))
            if len(class_counts) > 1:
                entry['question'] = question
            found.append(entry)
        start += size
    return found
