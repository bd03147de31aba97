"""Checks every run before its data sets and teachers are built."""

from collections.abc import Mapping
from typing import List

from mmengine.logging import print_log
from mmengine.runner import Runner

from ..compat.training_start import check_runs
from .check import check_config
from .findings import ConfigError, Problem, report
from .resume import ResumeCheckHook

WARNING = 30  # of the module logging
# Sections that a training does not read.
TEST_SECTIONS = ('test_dataloader', 'test_cfg', 'test_evaluator')
OFF = 'check_config'
SCOPES = ('mmaction', 'dtkd_mmaction')


def install() -> None:
    """Has MMEngine's runner call the checks."""
    check_runs(before_train, explain)


def before_train(runner: Runner) -> None:
    """Checks the config of a training that begins.

    Raises:
        ConfigError: With all problems, if one of them is an error.
    """
    runner.register_hook(ResumeCheckHook(), priority='VERY_HIGH')
    config = runner.cfg
    if not is_checked(config):
        return
    problems = check_config(config)
    raise_errors(problems, source_of(config))
    if problems:
        print_log(report(problems, source_of(config)), 'current', WARNING)


def raise_errors(problems: List[Problem], source: str) -> None:
    """Raises all problems at once if one of them stops a training."""
    if any(
        not p.warning and not p.key.startswith(TEST_SECTIONS) for p in problems
    ):
        raise ConfigError(report(problems, source))


def explain(config: Mapping, error: Exception) -> Exception:
    """Returns the problems of a config whose runner cannot be built.

    Args:
        config (Config): The config.
        error (Exception): The error of MMEngine.

    Returns:
        Exception: The same error if the check finds no reason for it.
    """
    if not is_checked(config):
        return error
    problems = check_config(config, models=True)
    if all(problem.warning for problem in problems):
        return error
    return ConfigError(
        f'{report(problems, source_of(config))}\n'
        f'MMEngine stopped with {type(error).__name__}: {error}'
    )


def is_checked(config: Mapping) -> bool:
    """Returns whether the config is one of MMAction2 and allows the check."""
    return (
        isinstance(config.get('model'), Mapping)
        and config.get('default_scope') in SCOPES
        and config.get(OFF, True) is not False
    )


def source_of(config: Mapping) -> str:
    """Returns the name of a config's file."""
    return str(getattr(config, 'filename', None) or 'The config')
