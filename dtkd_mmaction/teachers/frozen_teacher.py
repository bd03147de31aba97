"""A frozen stock model that is asked for logits and features."""

from typing import Any, Collection, Dict, Optional

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.utils import apply_to
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ..recognizers.clip_view import model_inputs
from ..recognizers.feature_tap import Recording
from ..recognizers.model_spec import check_spec, load_weights
from ..recognizers.tapped_recognizer import build_tapped
from .speedups import REWRITES, optimise

PRECISIONS = dict(bf16=torch.bfloat16, fp16=torch.float16)


class FrozenTeacher(nn.Module):
    """A stock recognizer in eval mode for good, without gradient.

    Sees its own view of the shared clip, normalised with its own statistics.
    It computes in float32, under mixed precision too, unless its spec says
    otherwise: so what it says live is what a cache holds. ``no_grad``, not
    ``inference_mode``: a projection of its maps may be trained.

    Args:
        spec (dict): Model spec (``docs/configs.md``). Its ``checkpoint`` must
            be written; ``None`` is allowed and warns. Of a teacher alone:
            ``optimise`` (True, False, or rewrite -> bool), ``precision``
            (``'bf16'`` or ``'fp16'``) and ``compile`` (bool).
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
        self.precision = PRECISIONS.get(spec.get('precision'))

    @staticmethod
    def check_spec(spec: dict, key: str) -> None:
        """Raise if the spec is none or leaves its checkpoint open."""
        check_spec(spec, key)
        chosen_rewrites(spec, key)
        precision = spec.get('precision')
        if precision is not None and precision not in PRECISIONS:
            raise ValueError(
                f'{key}.precision={precision!r}: choose one of '
                f'{list(PRECISIONS)}, or leave it out for float32.'
            )
        if not isinstance(spec.get('compile', False), bool):
            raise TypeError(
                f'{key}.compile={spec["compile"]!r}: True or False.'
            )
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

    def optimise(self) -> None:
        """Make it faster, after its weights are there.

        The exact rewrites (:mod:`dtkd_mmaction.teachers.speedups`) are checked
        against the stock forward and taken back where they do not agree. A
        teacher in another mode than ``'eval'`` has none.
        """
        if self.mode == 'eval':
            made = optimise(
                self.recognizer,
                self._answers,
                chosen_rewrites(self.spec, self.key),
                self.key,
            )
            self.train(False)  # what was put in, too
            print_log(
                f'{self.key}: optimised by {made or "nothing"}', 'current'
            )
        if self.spec.get('compile'):
            # The tap's hooks differ from call to call.
            torch._dynamo.config.skip_nnmodule_hook_guards = False
            self.recognizer.backbone.compile()

    def _answers(self) -> Dict[str, Tensor]:
        """All that losses can read, for two smooth random clips."""
        shape = self.tap.shapes['clip']  # (3, T, H, W)
        generator = torch.Generator().manual_seed(0)
        # batch 2: one clip alone selects other kernels on a CPU
        clips = torch.randn(2, 3, 4, 8, 8, generator=generator)
        clips = F.interpolate(clips, shape[1:], mode='trilinear')
        clips = clips.to(next(self.recognizer.parameters()))
        if self.view.fold_frames:
            clips = clips.transpose(1, 2).contiguous()
        else:
            clips = clips.unsqueeze(1)
        found = self._record(clips, ('maps', 'stem'))
        maps = {f'stage {i}': stage for i, stage in enumerate(found.maps)}
        if self.tap.stem_name is not None:
            maps['stem'] = found.stem
        return dict(
            logits=found.logits,
            embedding=found.embedding,
            map=found.map,
            **maps,
        )

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
        with torch.autocast(
            inputs.device.type,
            dtype=self.precision,
            enabled=self.precision is not None,
        ):
            recording = self._record(inputs, extras)
        if self.precision is not None:
            recording.logits = recording.logits.float()
            recording.head_input = in_float32(recording.head_input)
            recording.outputs = in_float32(recording.outputs)
        return recording

    def _record(self, inputs: Tensor, extras: Collection[str]) -> Recording:
        with self.tap.record(inputs, extras) as recording:
            self.recognizer.extract_feat(inputs, stage='head')
        return recording


def chosen_rewrites(spec: dict, key: str) -> dict:
    """The rewrites that a spec's ``optimise`` leaves on.

    Raises:
        TypeError: If it is neither a bool nor a dict of bools.
        ValueError: If it names one that there is not.
    """
    chosen = spec.get('optimise', True)
    if isinstance(chosen, bool):
        return REWRITES if chosen else {}
    if not isinstance(chosen, dict) or not all(
        isinstance(on, bool) for on in chosen.values()
    ):
        raise TypeError(
            f'{key}.optimise={chosen!r}: True, False, or a dict such as '
            f'dict({next(iter(REWRITES))}=False).'
        )
    unknown = set(chosen) - set(REWRITES)
    if unknown:
        raise ValueError(
            f'{key}.optimise names {sorted(unknown)}; there are '
            f'{list(REWRITES)}.'
        )
    return {n: r for n, r in REWRITES.items() if chosen.get(n, True)}


def in_float32(outputs: Any) -> Any:
    """All tensors in nested dicts, lists and tuples, in float32."""
    return apply_to(
        outputs, lambda x: isinstance(x, Tensor), lambda x: x.float()
    )
