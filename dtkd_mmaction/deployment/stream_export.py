"""Export of one step of a streaming MoViNet to an ONNX file."""

import json
from typing import Dict, List, Optional, Tuple

import torch
import torch.nn as nn
from torch import Tensor

from ..backbones.movinet import MoViNet
from ..files import Path
from ..heads.movinet_head import MoViNetHead
from .clip_classifier import ClipClassifier, ClipShape
from .onnx_export import (
    check_with_onnxruntime,
    example_input,
    onnx_metadata,
    save_onnx,
    traced,
)

HEAD = 'head'
NEXT = 'next_'


class StreamStep(nn.Module):
    """Scores of the next frame of a video, with the state as tensors.

    Args:
        recognizer (nn.Module): Its backbone is a causal ``MoViNet``, its
            head a ``MoViNetHead``. It is copied.
        clip_shape (tuple[int, int, int, int]): (3, T, H, W); T is not used.
        normalise (bool): As in :class:`ClipClassifier`.
        softmax (bool): Likewise.

    Attributes:
        names (list[str]): Names of the tensors of the state.
        zeros (tuple[Tensor, ...]): The state before the first frame.

    Raises:
        TypeError: If the recognizer is another one.
    """

    def __init__(
        self,
        recognizer: nn.Module,
        clip_shape: ClipShape,
        normalise: bool = False,
        softmax: bool = False,
    ) -> None:
        super().__init__()
        check_streaming(recognizer)
        self.classifier = ClipClassifier(recognizer, normalise, softmax)
        recognizer = self.classifier.recognizer
        frame = torch.zeros(1, 3, 1, *clip_shape[2:])
        with torch.no_grad():
            feats, state = recognizer.backbone.stream(frame)
            _, head_state = recognizer.cls_head.stream(feats)
        layers = {
            f'stage{i}_layer{j}': layer
            for i, stage in enumerate(state)
            for j, layer in enumerate(stage)
        }
        layers[HEAD] = head_state
        self.names = [
            f'{layer}_{key}' for layer, kept in layers.items() for key in kept
        ]
        self.zeros: Tuple[Tensor, ...] = tuple(
            torch.zeros_like(value)
            for kept in layers.values()
            for value in kept.values()
        )
        self._keys = [
            (layer, key) for layer, kept in layers.items() for key in kept
        ]
        self._stages = [len(stage) for stage in state]

    def forward(self, frame: Tensor, *state: Tensor) -> Tuple[Tensor, ...]:
        """Returns the scores of the video so far and the next state.

        Args:
            frame (Tensor): (1, 3, 1, H, W), or with ``normalise`` ``uint8``
                (1, 1, H, W, 3).
            *state (Tensor): ``zeros``, or what the step before returned.

        Returns:
            tuple[Tensor, ...]: Scores (1, N), and the state.
        """
        recognizer = self.classifier.recognizer
        layers: Dict[str, Dict[str, Tensor]] = {}
        for (layer, key), value in zip(self._keys, state):
            layers.setdefault(layer, {})[key] = value
        stages = [
            [dict(layers.get(f'stage{i}_layer{j}', {})) for j in range(count)]
            for i, count in enumerate(self._stages)
        ]
        clip = self.classifier.normalised(frame)
        feats, stages = recognizer.backbone.stream(clip, stages)
        scores, head = recognizer.cls_head.stream(feats, layers[HEAD])
        after = {
            f'stage{i}_layer{j}': layer
            for i, stage in enumerate(stages)
            for j, layer in enumerate(stage)
        }
        after[HEAD] = head
        return (
            self.classifier.scores(scores),
            *[after[layer][key] for layer, key in self._keys],
        )


def check_streaming(recognizer: nn.Module) -> None:
    """Raises an error if a recognizer cannot be given a video in pieces."""
    backbone = recognizer.backbone
    if (
        not isinstance(backbone, MoViNet)
        or not backbone.causal
        or not isinstance(recognizer.cls_head, MoViNetHead)
    ):
        raise TypeError(
            f'model.backbone.type={type(backbone).__name__}: only a MoViNet '
            'with causal=True and a MoViNetHead takes one frame after the '
            'other.'
        )


def export_stream_onnx(
    recognizer: nn.Module,
    clip_shape: ClipShape,
    path: Path,
    normalise: bool = False,
    softmax: bool = False,
    class_names: Optional[List[str]] = None,
    pipeline: Optional[List[dict]] = None,
) -> None:
    """Writes one step of a causal MoViNet as an ONNX file, and checks it.

    The graph takes a frame and the state, and returns the scores of the
    video so far and the next state. The input ``x`` of the state gets the
    output ``next_x`` of the step before, and zeros before the first frame.
    The metadata ``state`` lists the names.

    Args:
        recognizer (nn.Module): Its backbone is a causal ``MoViNet``.
        clip_shape (tuple[int, int, int, int]): As in
            :func:`~dtkd_mmaction.deployment.export_onnx`; the graph takes
            one frame of it.
        path (str or Path): The file.
        normalise (bool): As in ``export_onnx``.
        softmax (bool): As in ``export_onnx``.
        class_names (list[str], optional): As in ``export_onnx``.
        pipeline (list[dict], optional): As in ``export_onnx``.

    Raises:
        ImportError: If onnx or onnxscript is not installed.
        ExportError: If PyTorch cannot export it, or the graph's scores
            differ from PyTorch's.
        TypeError: If the recognizer cannot be given a video in pieces.
    """
    step = StreamStep(recognizer, clip_shape, normalise, softmax)
    channels, _, height, width = clip_shape
    frame = example_input(step.classifier, (channels, 1, height, width), 1)
    proto = traced(
        step,
        (frame, *step.zeros),
        ['frames' if normalise else 'clips', *step.names],
        [
            'probabilities' if softmax else 'logits',
            *[f'{NEXT}{name}' for name in step.names],
        ],
    )
    metadata = onnx_metadata(
        recognizer, step.classifier, class_names, pipeline
    )
    metadata['state'] = json.dumps(step.names)
    save_onnx(proto, metadata, path)
    with torch.no_grad():
        _, *state = step(frame, *step.zeros)
    check_with_onnxruntime(step, (frame, *state), path)
