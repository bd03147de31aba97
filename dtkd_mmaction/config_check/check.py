"""Walks the config of a run and reports all of its problems at once."""

import traceback
from collections.abc import Mapping
from typing import Callable, Dict, List

from mmengine.registry import DefaultScope

from ..datasets.keyed_views import keyed_generators
from .checkpoints import check_checkpoints
from .findings import Findings, Problem
from .lists import ListOf, check_lists
from .models import ModelOf, check_model
from .monitors import check_monitors
from .probes import check_models
from .sections import check_sections
from .structure import LOADERS, check_structure
from .training import check_sampling, check_schedule, check_training
from .views import check_views


def check_config(
    config: Mapping,
    files: bool = True,
    strict: bool = False,
    models: bool = False,
) -> List[Problem]:
    """Finds what is wrong with a config before it is used.

    Args:
        config (Config): A whole config.
        files (bool): Whether to look at annotation lists, clips and
            checkpoints. Defaults to True.
        strict (bool): Whether an error inside a check is raised. By default it
            becomes a warning, so that a fault of this check stops no training.
            Defaults to False.
        models (bool): Whether to build each model, without weights, and to
            try its view, tap and stages. Takes a few seconds per model.
            Defaults to False.

    Returns:
        list[Problem]: All problems: errors first, then warnings.
    """
    findings = Findings()
    described = ModelOf(False, [], None, False)
    lists: Dict[str, List[ListOf]] = {loader: [] for loader in LOADERS}

    def run(check: Callable, *arguments):
        try:
            return check(*arguments, findings)
        except Exception as error:
            if strict:
                raise
            where = traceback.extract_tb(error.__traceback__)[-1]
            findings.warn(
                'check_config',
                f'{check.__name__} failed with {type(error).__name__} '
                f'({error}; {where.filename}:{where.lineno}). This is a fault '
                'of the check. Please report it; the run goes on.',
            )
        return None

    # Building losses draws random numbers, which must not affect the run.
    scope = DefaultScope.overwrite_default_scope('mmaction')
    with scope, keyed_generators([0]):
        described = run(check_model, config) or described
        run(check_structure, config)
        run(check_sections, config)
        run(check_monitors, config)
        run(check_sampling, config)
        run(check_schedule, config)
        run(check_views, config, described, files)
        if files:
            lists = run(check_lists, config, described) or lists
            run(check_training, config, lists)
            run(check_checkpoints, config, described)
        if models:
            run(check_models, config, described)
    return sorted(findings.problems, key=lambda problem: problem.warning)
