"""Names the reason when a run cannot be resumed with another config."""

from typing import Dict, List, Set

import torch.nn as nn
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from .findings import ConfigError


class ResumeCheckHook(Hook):
    """Compares the trained parts of a checkpoint with those of the model.

    PyTorch refuses the optimizer's state of another set of parameters with
    "a parameter group that doesn't match the size of optimizer's group".
    This hook says which part was added or removed.
    """

    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compares, if the run resumes.

        Raises:
            ConfigError: If the optimizer's state does not fit.
        """
        state = checkpoint.get('optimizer')
        optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
        if (
            not runner._resume
            or optimizer is None
            or not isinstance(state, dict)
            or 'param_groups' not in state
        ):
            return
        saved, ours = (
            [len(group['params']) for group in groups]
            for groups in (state['param_groups'], optimizer.param_groups)
        )
        if saved == ours:
            return
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        raise ConfigError(
            f'resume={runner._load_from!r}: the checkpoint was written by a '
            f'run with other trained parts (its optimizer holds {sum(saved)} '
            f'parameters, this one {sum(ours)}). '
            + ' '.join(_differences(checkpoint.get('state_dict', {}), model))
            + ' Resume with the config of that run, or start a new run from '
            "its weights: load_from='...' without --resume."
        )


def _differences(saved: Dict, model: nn.Module) -> List[str]:
    found = {
        'It lacks': _parts(model.state_dict()) - _parts(saved),
        'This config lacks': _parts(saved) - _parts(model.state_dict()),
    }
    reasons = {
        'It lacks': 'a loss was switched on since',
        'This config lacks': 'a loss was switched off since',
    }
    texts = [
        f'{start} {", ".join(sorted(parts))}: {reasons[start]}, or the model '
        'has changed.'
        for start, parts in found.items()
        if parts
    ]
    return texts or ['The options of the optimizer have changed.']


def _parts(names: Dict) -> Set[str]:
    """Returns ``branch``, ``losses.kd`` and the like of parameter names."""
    parts = set()
    for name in names:
        words = name.split('.')
        if words[:2] == ['losses', 'losses']:
            parts.add(f'model.losses.{words[2]}')
        else:
            parts.add(f'model.{words[0]}')
    return parts
