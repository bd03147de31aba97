"""Decides what happens to a step whose losses are not finite."""

import math
from typing import Dict

import torch
from mmengine.logging import print_log
from torch import Tensor

# Consecutive steps. The scaler of float16 cannot save a diverged model.
MAX_SKIPPED_STEPS = 25


class FiniteLosses:
    """Checks the losses and monitors of each step.

    A value that is not finite ends the training, with its name. In mixed
    precision with float16 the step is skipped instead, because a single
    batch may overflow: the loss is made NaN, so the gradients are too, and
    ``GradScaler`` leaves the weights alone. All processes then skip it.

    Attributes:
        float16 (bool): Whether the forward pass of this step ran under
            float16 autocast.
    """

    def __init__(self) -> None:
        self.float16 = False
        self._skipped = 0

    def check(self, total: Tensor, log_vars: Dict[str, Tensor]) -> Tensor:
        """Checks the values of one step.

        Args:
            total (Tensor): The loss that is differentiated.
            log_vars (dict[str, Tensor]): Every loss and monitor.

        Returns:
            Tensor: ``total``, or NaN with its graph for a skipped step.

        Raises:
            FloatingPointError: If a value is not finite, and the step is not
                to be skipped.
        """
        values = torch.stack([v.detach().float() for v in log_vars.values()])
        if torch.isfinite(values).all():
            self._skipped = 0
            return total
        terms = dict(zip(log_vars, values.tolist()))
        broken = {k: v for k, v in terms.items() if not math.isfinite(v)}
        message = f'Loss terms that are not finite: {broken}.'
        self._skipped += 1
        if not self.float16 or self._skipped > MAX_SKIPPED_STEPS:
            raise FloatingPointError(
                f'{message} All terms: {terms}. A lower learning rate, '
                'clip_grad or a lower loss_weight of that term may help.'
            )
        print_log(
            f'{message} This step is skipped, as it may be an overflow of '
            f'float16. After {MAX_SKIPPED_STEPS} such steps in a row the '
            'training ends.',
            'current',
            level=30,
        )
        return total * math.nan
