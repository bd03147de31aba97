"""Metrics that MMAction2 does not have."""

from .verb_noun_metric import VerbNounMetric

__all__ = ['VerbNounMetric']
