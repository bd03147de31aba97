"""Multinomial logistic regression with L2 regularisation."""

from typing import List, NamedTuple, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_ITERATIONS = 1000
# Largest gradient at which L-BFGS stops.
GRADIENT_TOLERANCE = 1e-5
# Strengths after the best one that are tried before stopping.
PATIENCE = 2


class LinearClassifier(NamedTuple):
    """A linear layer: weight (N, D) and bias (N,)."""

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Computes logits (..., N) of features (..., D)."""
        return F.linear(features, self.weight, self.bias)


class Standardiser(NamedTuple):
    """Subtracts means (D,) and divides by standard deviations (D,)."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, features: Tensor) -> 'Standardiser':
        """Measures features (n, D). A constant feature becomes zero."""
        std = features.std(dim=0, unbiased=False)
        std = torch.where(std > 1e-6 * std.max(), std, torch.inf)
        return cls(features.mean(dim=0), std)

    def __call__(self, features: Tensor) -> Tensor:
        """Standardises features (..., D)."""
        return (features - self.mean) / self.std

    def absorb(self, classifier: LinearClassifier) -> LinearClassifier:
        """Returns the same classifier for features before standardisation."""
        weight = classifier.weight / self.std
        return LinearClassifier(weight, classifier.bias - weight @ self.mean)


def fit(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    strength: float,
    start: Optional[LinearClassifier] = None,
) -> LinearClassifier:
    """Minimises mean cross entropy + strength / 2 * ||weight||^2.

    Args:
        features (Tensor): (n, D), about standardised.
        labels (Tensor): (n,), from 0 to N - 1.
        num_classes (int): N.
        strength (float): Strength of the regularisation.
        start (LinearClassifier, optional): Initial values. Defaults to zero.

    Returns:
        LinearClassifier: The minimum, found by L-BFGS.
    """
    if start is None:
        start = LinearClassifier(
            features.new_zeros(num_classes, features.shape[1]),
            features.new_zeros(num_classes),
        )
    found = LinearClassifier(*(p.clone().requires_grad_() for p in start))
    optimizer = torch.optim.LBFGS(
        list(found),
        max_iter=MAX_ITERATIONS,
        history_size=20,
        tolerance_grad=GRADIENT_TOLERANCE,
        tolerance_change=1e-10,
        line_search_fn='strong_wolfe',
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(found.logits(features), labels)
        loss = loss + strength / 2 * found.weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return LinearClassifier(*(p.detach() for p in found))


def log_loss(logits: Tensor, labels: Tensor) -> float:
    """Computes the mean negative log-likelihood of logits (n, N)."""
    return float(F.cross_entropy(logits, labels))


class Validation(NamedTuple):
    """Result of cross-validation for one strength.

    Attributes:
        strength (float): Strength of the regularisation.
        accuracy (float): Fraction of rows classified correctly.
        log_loss (float): Mean negative log-likelihood.
    """

    strength: float
    accuracy: float
    log_loss: float


def cross_validate(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    folds: Tensor,
    strengths: Sequence[float],
) -> List[Validation]:
    """Measures strengths by cross-validation, from strong to weak.

    Each fold is predicted by a classifier that was fitted, and a
    standardiser that was measured, on all other folds. Weaker strengths take
    longer, so it stops when the log loss has passed its minimum.

    Args:
        features (Tensor): (n, D).
        labels (Tensor): (n,).
        num_classes (int): N.
        folds (Tensor): (n,), number of the fold of each row.
        strengths (Sequence[float]): Strengths to measure.

    Returns:
        list[Validation]: One per strength, the strongest first.
    """
    training = [folds != fold for fold in folds.unique()]
    standardisers = [Standardiser.of(features[rows]) for rows in training]
    classifiers: List[Optional[LinearClassifier]] = [None] * len(training)
    results: List[Validation] = []
    for strength in sorted(strengths, reverse=True):
        logits = features.new_zeros(len(features), num_classes)
        for i, (rows, standardise) in enumerate(zip(training, standardisers)):
            # The minimum of the next weaker regularisation is close to this
            # one.
            classifiers[i] = fit(
                standardise(features[rows]),
                labels[rows],
                num_classes,
                strength,
                classifiers[i],
            )
            logits[~rows] = classifiers[i].logits(standardise(features[~rows]))
        accuracy = (logits.argmax(dim=1) == labels).double().mean()
        loss = log_loss(logits, labels)
        results.append(Validation(strength, float(accuracy), loss))
        best = min(result.log_loss for result in results)
        if all(result.log_loss > best for result in results[-PATIENCE:]):
            break
    return results
