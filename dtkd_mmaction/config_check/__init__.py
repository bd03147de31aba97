"""Checks the whole config of a run before its first step."""

from .check import check_config
from .findings import ConfigError, Problem, report
from .run import install

__all__ = ['ConfigError', 'Problem', 'check_config', 'install', 'report']
