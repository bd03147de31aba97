"""A frozen stock model that is asked for logits and features."""

from typing import Collection, Optional

import torch
import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from .feature_tap import Recording
from .model_spec import check_spec, load_weights
from .tapped_recognizer import build_tapped, model_inputs


class FrozenTeacher(nn.Module):
    """A stock recognizer in eval mode for good, without gradient.

    Sees its own view of the shared clip, normalised with its own statistics.

    Args:
        spec (dict): Model spec (``docs/configs.md``). Its ``checkpoint`` must
            be written; ``None`` is allowed and warns.
        num_classes (int, optional): Classes of its head, if the spec's
            config has others.
        key (str): Where the config has the spec, for messages.
        mode (str): ``'eval'``, or ``'bn_eval_only'``: dropout and stochastic
            depth stay on, as in MMRazor, whose numbers it is there to mimic.
            Defaults to ``'eval'``.
    """

    def __init__(
        self,
        spec: dict,
        num_classes: Optional[int] = None,
        key: str = 'model.teacher',
        mode: str = 'eval',
    ) -> None:
        super().__init__()
        self.check_spec(spec, key)
        self.mode = mode
        self.spec = spec
        self.key = key
        self.recognizer, self.view, self.tap = build_tapped(
            spec, num_classes, key
        )
        self.requires_grad_(False)
        self.train(False)

    @staticmethod
    def check_spec(spec: dict, key: str) -> None:
        """Raise if the spec is none or leaves its checkpoint open."""
        check_spec(spec, key)
        if 'checkpoint' not in spec:
            raise TypeError(
                f'{key} has no `checkpoint`. A teacher is a trained model: '
                'write its path or URL (or None, to try things out with '
                'random weights).'
            )

    def load_checkpoint(self) -> None:
        """Load the weights that the spec names."""
        if self.spec['checkpoint'] is None:
            print_log(
                f'{self.key}.checkpoint is None: this teacher is random and '
                'teaches nothing.',
                'current',
                level=30,
            )
        else:
            load_weights(self.recognizer, self.spec['checkpoint'], self.key)

    def train(self, mode: bool = True) -> 'FrozenTeacher':
        """Stay in its own mode, whatever is asked for."""
        # Bare stock backbones freeze layers in train() and return None, so
        # the flag is set on every module instead of calling theirs.
        for module in self.modules():
            module.training = self.mode == 'bn_eval_only' and not isinstance(
                module, _BatchNorm
            )
        return self

    def __deepcopy__(self, memo: dict) -> 'FrozenTeacher':
        """Copies of a distiller (EMA) share its teachers: nothing changes."""
        return self

    @torch.no_grad()
    def forward(
        self, clips: Tensor, extras: Collection[str] = ()
    ) -> Recording:
        """Logits and features for the shared clips.

        Args:
            clips (Tensor): (B, 1, 3, T, H, W), raw.
            extras (Collection[str]): What to record beside the map:
                :data:`~.feature_tap.EXTRAS`.

        Returns:
            Recording: All of it without gradient.
        """
        inputs = model_inputs(self.recognizer, self.view, clips)
        with self.tap.record(inputs, extras) as recording:
            self.recognizer.extract_feat(inputs, stage='head')
        return recording
