"""Fits the classification layer of a frozen model for a teacher."""

from .embeddings import EmbeddingStore
from .folds import group_names, looks_grouped, make_folds
from .logistic import (
    LinearClassifier,
    Standardiser,
    cross_validate,
    fit,
    log_loss,
)
from .probed_model import ProbedModel

__all__ = [
    'EmbeddingStore',
    'LinearClassifier',
    'ProbedModel',
    'Standardiser',
    'cross_validate',
    'fit',
    'group_names',
    'log_loss',
    'looks_grouped',
    'make_folds',
]
