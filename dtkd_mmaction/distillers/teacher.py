"""A frozen stock model that is asked for logits and features."""

from typing import Collection, Optional

import torch
import torch.nn as nn
from mmaction.models import Recognizer2D
from mmengine.config import Config
from mmengine.logging import print_log
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from .clip_view import ClipView
from .feature_tap import FeatureTap, Recording
from .model_spec import (
    build_recognizer,
    check_spec,
    forget_pretraining,
    load_config,
    load_weights,
    set_num_classes,
    stock_clip,
)


def model_inputs(
    recognizer: nn.Module,
    view: ClipView,
    clips: Tensor,
    data_samples: Optional[list] = None,
) -> Tensor:
    """The shared clips as one stock model wants them.

    Args:
        recognizer (nn.Module): Its own data preprocessor normalises.
        view (ClipView): Its own frames and size.
        clips (Tensor): (B, 1, 3, T, H, W), raw.
        data_samples (list, optional): Passed on to the preprocessor.

    Returns:
        Tensor: (B, 1, 3, t, h, w), or (B, t, 3, h, w) for a 2-D recognizer.
    """
    data = dict(inputs=list(view(clips)), data_samples=data_samples)
    return recognizer.data_preprocessor(data, training=False)['inputs']


def tap_recognizer(
    recognizer: nn.Module, spec: dict, config: Config, key: str
):
    """View and tap of a stock model, tried out once on an empty clip.

    Returns:
        tuple[ClipView, FeatureTap]

    Raises:
        ValueError: If the model cannot take its view.
    """
    view = ClipView(
        **(spec.get('view') or {}),
        fold_frames=isinstance(recognizer, Recognizer2D),
        key=key,
    )
    clip = dict(stock_clip(config), **(spec.get('view') or {}))
    size = clip['size']
    height, width = (size, size) if isinstance(size, int) else size
    device = next(recognizer.parameters()).device
    empty = torch.zeros(1, 1, 3, clip['frames'], height, width, device=device)
    inputs = model_inputs(recognizer, view, empty)
    try:
        tap = FeatureTap(
            recognizer, inputs, spec.get('tap'), key, spec.get('stages')
        )
    except (RuntimeError, AssertionError, IndexError, KeyError) as error:
        stock = stock_clip(config)
        raise ValueError(
            f'{key}: {type(recognizer.backbone).__name__} cannot take a view '
            f'of {clip["frames"]} frames of {height}x{width} ({error}). Its '
            f"config's own clips are {stock['frames']} frames of "
            f'{stock["size"]}x{stock["size"]}: set {key}.view to what the '
            'model was built for.'
        ) from error
    return view, tap


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
        config = load_config(spec, key)
        set_num_classes(config.model, num_classes)
        forget_pretraining(config.model)
        self.recognizer = build_recognizer(config, key)
        self.requires_grad_(False)
        self.train(False)
        self.view, self.tap = tap_recognizer(
            self.recognizer, spec, config, key
        )

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
