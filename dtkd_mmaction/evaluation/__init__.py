"""Metrics that MMAction2 lacks."""

from .verb_noun_metric import VerbNounMetric

__all__ = ['VerbNounMetric']
