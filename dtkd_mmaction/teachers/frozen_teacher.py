"""Frozen stock model that returns logits and features."""

from typing import Any, Collection, Dict, Optional

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.utils import apply_to
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ..modules.head_input import head_input_form, map_to_head_input
from ..recognizers.clip_view import model_inputs
from ..recognizers.model_spec import check_spec, load_weights
from ..recognizers.recording import Recording
from ..recognizers.tapped_recognizer import build_tapped
from .speedups import SPEEDUPS, apply_speedups
from .speedups.rewrite import Rewrite

# Keys of a model spec that choose the speedups. The second is the old name.
SPEEDUP_KEYS = ('speedups', 'optimise')
PRECISIONS = dict(bf16=torch.bfloat16, fp16=torch.float16)


class FrozenTeacher(nn.Module):
    """A stock recognizer that stays in eval mode and has no gradient.

    It sees its own view of the shared clip, normalised with its own
    statistics. It computes in float32, under mixed precision too, unless its
    spec sets ``precision``. So its outputs are those that a cache holds. It
    uses ``no_grad`` and not ``inference_mode``, because a projection of its
    maps can be trained.

    Args:
        spec (dict): Model spec (``docs/configs.md``). ``checkpoint`` is
            required; ``None`` is allowed and logs a warning. For teachers
            alone: ``speedups`` (True, False, or name -> bool), ``precision``
            (``'bf16'`` or ``'fp16'``) and ``compile`` (bool).
        num_classes (int, optional): Classes of its head, if the spec's
            config has others.
        key (str): Config key of the spec, for messages.
        mode (str): ``'eval'``, or ``'bn_eval_only'``, which leaves dropout
            and stochastic depth on, as MMRazor does. Defaults to ``'eval'``.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.distillers import FrozenTeacher
        >>> # Any recognizer; 'mmaction::recognition/...py' names a stock one.
        >>> small = dict(
        ...     type='Recognizer3D',
        ...     backbone=dict(type='X3D', gamma_b=2.25, gamma_d=0.2),
        ...     cls_head=dict(type='X3DHead', in_channels=432, num_classes=4),
        ...     data_preprocessor=dict(
        ...         type='ActionDataPreprocessor', format_shape='NCTHW'
        ...     ),
        ... )
        >>> view = dict(frames=4, size=32)
        >>> teacher = FrozenTeacher(
        ...     dict(cfg=small, checkpoint=None, view=view)
        ... )
        >>> recording = teacher(torch.randint(0, 256, (2, 1, 3, 16, 64, 64)))
        >>> recording.logits.shape, recording.logits.requires_grad
        (torch.Size([2, 4]), False)
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
        self.precision = PRECISIONS.get(spec.get('precision', ''))

    @staticmethod
    def check_spec(spec: dict, key: str) -> None:
        """Raises if the spec is invalid or has no ``checkpoint``."""
        check_spec(spec, key)
        chosen_speedups(spec, key)
        precision = spec.get('precision')
        if precision is not None and precision not in PRECISIONS:
            raise ValueError(
                f'{key}.precision={precision!r}: choose one of '
                f'{list(PRECISIONS)}, or leave it out for float32.'
            )
        if not isinstance(spec.get('compile', False), bool):
            raise TypeError(
                f'{key}.compile={spec["compile"]!r}: give True or False.'
            )
        if 'checkpoint' not in spec:
            raise TypeError(
                f'{key} has no `checkpoint`. A teacher is a trained model: '
                'write its path or URL, or None for random weights to try '
                'things out.'
            )

    def load_checkpoint(self) -> None:
        """Loads the weights that the spec names."""
        if self.spec['checkpoint'] is None:
            print_log(
                f'{self.key}.checkpoint is None: this teacher has random '
                'weights and teaches nothing.',
                'current',
                level=30,
            )
        else:
            load_weights(
                self.recognizer, self.spec['checkpoint'], self.key, whole=True
            )

    def apply_speedups(self) -> None:
        """Makes the teacher faster. Call it after the weights are loaded.

        The exact rewrites (:mod:`dtkd_mmaction.teachers.speedups`) are
        compared with the stock forward pass, and undone if they disagree. A
        teacher that is not in ``'eval'`` mode is not rewritten.
        """
        if self.mode == 'eval':
            applied = apply_speedups(
                self.recognizer,
                self._sample_outputs,
                chosen_speedups(self.spec, self.key),
                self.key,
            )
            self.train(False)  # also the modules that were put in
            names = ', '.join(applied) or 'none'
            print_log(f'{self.key}: speedups applied: {names}', 'current')
        if self.spec.get('compile'):
            # The tap's hooks differ from call to call.
            torch._dynamo.config.skip_nnmodule_hook_guards = False
            self.recognizer.backbone.compile()

    def _sample_outputs(self) -> Dict[str, Tensor]:
        """Returns everything that losses can read, for two random clips."""
        shape = self.tap.shapes['clip']  # (3, T, H, W)
        generator = torch.Generator().manual_seed(0)
        # Two clips, because one clip selects other kernels on a CPU.
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
        """Keeps its own mode, whatever ``mode`` is."""
        # Some stock backbones freeze layers in train() and return None, so
        # the flag is set on every module instead of calling their train().
        for module in self.modules():
            module.training = self.mode == 'bn_eval_only' and not isinstance(
                module, _BatchNorm
            )
        return self

    def __deepcopy__(self, memo: dict) -> 'FrozenTeacher':
        """Returns itself: copies of a distiller (EMA) share its teachers."""
        return self

    @torch.no_grad()
    def forward(
        self, clips: Tensor, extras: Collection[str] = ()
    ) -> Recording:
        """Returns logits and features for the shared clips.

        Args:
            clips (Tensor): (B, 1, 3, T, H, W), raw.
            extras (Collection[str]): What to record besides the map, names
                of :data:`~.recording.EXTRAS`.

        Returns:
            Recording: Has no gradient.
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

    @torch.no_grad()
    def classify(self, embedding: Tensor) -> Tensor:
        """Returns the logits of its head for embeddings of any model.

        Args:
            embedding (Tensor): One vector per clip, as an ``embedding`` of a
                ``Recording``: (B, D).

        Returns:
            Tensor: (B, N), without gradient.
        """
        form, widths = head_input_form(self.tap.head_input)
        head = self.recognizer.cls_head
        frames = getattr(head, 'num_segments', None)
        head_input = map_to_head_input(
            embedding[:, :, None, None, None], form, widths, frames
        )
        return head(head_input, num_segs=frames or 1)

    def _record(self, inputs: Tensor, extras: Collection[str]) -> Recording:
        with self.tap.record(inputs, extras) as recording:
            self.recognizer.extract_feat(inputs, stage='head')
        return recording


def chosen_speedups(spec: dict, key: str) -> Dict[str, Rewrite]:
    """Returns the rewrites that a spec's ``speedups`` leaves on.

    Raises:
        TypeError: If ``speedups`` is neither a bool nor a dict of bools, or
            if its old name ``optimise`` is given, too.
        ValueError: If it names an unknown rewrite.
    """
    given = [name for name in SPEEDUP_KEYS if name in spec]
    if len(given) > 1:
        raise TypeError(
            f'{key} has both {" and ".join(SPEEDUP_KEYS)}: these are the new '
            'and the old name of one key. Keep the first.'
        )
    option = given[0] if given else SPEEDUP_KEYS[0]
    chosen = spec.get(option, True)
    if isinstance(chosen, bool):
        return SPEEDUPS if chosen else {}
    if not isinstance(chosen, dict) or not all(
        isinstance(on, bool) for on in chosen.values()
    ):
        raise TypeError(
            f'{key}.{option}={chosen!r}: give True, False, or a dict such as '
            f'dict({next(iter(SPEEDUPS))}=False).'
        )
    unknown = set(chosen) - set(SPEEDUPS)
    if unknown:
        raise ValueError(
            f'{key}.{option} names {sorted(unknown)}; known are '
            f'{list(SPEEDUPS)}.'
        )
    return {n: r for n, r in SPEEDUPS.items() if chosen.get(n, True)}


def in_float32(outputs: Any) -> Any:
    """Converts all tensors in nested dicts, lists and tuples to float32."""
    return apply_to(
        outputs, lambda x: isinstance(x, Tensor), lambda x: x.float()
    )
