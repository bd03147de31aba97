"""Export of a stock recognizer to an ONNX file."""

import json
import logging
import warnings
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
import torch.nn as nn
from mmengine.logging import print_log

from ..files import Path, write_bytes
from ..version import __version__
from .clip_classifier import ClipClassifier, ClipShape, normalisation
from .optional_packages import optional_package

OPSET = 20
# Batch of the example input. Not 1, which the exporter takes for a constant.
EXAMPLE_BATCH = 2
# Largest difference that is float32 rounding: as a share of the largest score
# of a clip, and at least so much.
TOLERANCE, SMALLEST = 1e-3, 1e-5


class ExportError(RuntimeError):
    """A recognizer that could not be exported, or not exactly."""


def export_onnx(
    recognizer: nn.Module,
    clip_shape: ClipShape,
    path: Path,
    batch: Optional[int] = None,
    normalise: bool = False,
    softmax: bool = False,
    class_names: Optional[List[str]] = None,
    pipeline: Optional[List[dict]] = None,
) -> None:
    """Writes a stock recognizer as an ONNX file, and checks the file.

    The graph has one input, ``clips`` or with ``normalise`` ``frames``, and
    one output, ``logits`` or with ``softmax`` ``probabilities``, (B, N). The
    file's metadata holds what is needed to use it without PyTorch, see
    :func:`onnx_metadata`.

    The file is checked by ``onnx.checker``, and if onnxruntime is installed
    its scores are compared with those of PyTorch on random clips.

    Args:
        recognizer (nn.Module): ``Recognizer2D`` or ``Recognizer3D``. It is
            not changed.
        clip_shape (tuple[int, int, int, int]): One input of the recognizer:
            (3, T, H, W), of a 2-D recognizer (T, 3, H, W).
        path (str or Path): The file.
        batch (int, optional): Batch size that the graph takes. Defaults to
            any.
        normalise (bool): Whether the graph takes decoded frames,
            (B, T, H, W, 3) ``uint8`` RGB, and normalises them. Defaults to
            False: it takes normalised clips, (B, \\*clip_shape) float32.
        softmax (bool): Whether it returns probabilities. Defaults to False.
        class_names (list[str], optional): Names in the order of the labels.
        pipeline (list[dict], optional): The stock pipeline that makes the
            clips, in literals.

    Raises:
        ImportError: If onnx or onnxscript is not installed.
        ExportError: If PyTorch cannot export the model, or the graph's
            scores differ from PyTorch's.
        ValueError: If the shape or the class names do not fit the model.
    """
    model = ClipClassifier(recognizer, normalise, softmax).cpu().float()
    example = example_input(model, clip_shape, batch or EXAMPLE_BATCH)
    with torch.no_grad():
        try:
            classes = model(example).shape[1]
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ValueError(
                f'clip_shape={tuple(clip_shape)}: the recognizer fails on '
                f'it: {error}'
            ) from error
    if class_names is not None and len(class_names) != classes:
        raise ValueError(
            f'{len(class_names)} class names were given, but the model has '
            f'{classes} classes.'
        )
    try:
        proto = traced(
            model,
            (example,),
            ['frames' if normalise else 'clips'],
            ['probabilities' if softmax else 'logits'],
            None if batch else ({0: torch.export.Dim('batch')},),
        )
    except ExportError as error:
        if batch is None:
            raise ExportError(
                f'{error} Some models export for a fixed batch only: try '
                'batch=1 (deploy.py --batch 1).'
            ) from error
        raise
    metadata = onnx_metadata(recognizer, model, class_names, pipeline)
    save_onnx(proto, metadata, path)
    check_with_onnxruntime(model, (example,), path)


def example_input(
    model: ClipClassifier, clip_shape: ClipShape, batch: int
) -> torch.Tensor:
    """Returns random clips or frames in the layout of the model.

    Raises:
        ValueError: If the shape has not four axes with three channels.
    """
    channels = 1 if model.folds_frames else 0
    if len(clip_shape) != 4 or clip_shape[channels] != 3:
        layout = '(T, 3, H, W)' if model.folds_frames else '(3, T, H, W)'
        raise ValueError(f'clip_shape={tuple(clip_shape)}: expected {layout}.')
    generator = torch.Generator().manual_seed(0)
    if not model.normalise:
        return torch.randn(batch, *clip_shape, generator=generator)
    size = (batch, clip_shape[1 - channels], *clip_shape[2:], 3)
    return torch.randint(0, 256, size, generator=generator).to(torch.uint8)


def onnx_metadata(
    recognizer: nn.Module,
    model: ClipClassifier,
    class_names: Optional[List[str]],
    pipeline: Optional[List[dict]],
) -> Dict[str, str]:
    """Returns the metadata of the file, name -> JSON.

    ``class_names``: list, in the order of the labels. ``pipeline``: the
    stock pipeline, list of dicts. ``input``: ``layout`` (``NTHWC``,
    ``NCTHW`` or ``NTCHW``) and, for floats, ``mean``, ``std`` and
    ``to_rgb``, with which decoded frames are normalised. ``output``:
    ``average`` (``prob`` or ``score``, what is averaged over the views of a
    video) and ``class_counts`` (classes per question). ``made_by``: this
    package and its version.
    """
    layout: Dict[str, Any] = dict(
        layout='NTCHW' if model.folds_frames else 'NCTHW'
    )
    if model.normalise:
        layout = dict(layout='NTHWC')
    else:
        to_rgb, mean, std = normalisation(recognizer)
        layout.update(to_rgb=to_rgb, mean=mean, std=std)
    average = recognizer.cls_head.average_clips
    content: Dict[str, Any] = dict(
        input=layout,
        output=dict(
            average='score' if average == 'score' else 'prob',
            class_counts=model.class_counts,
        ),
        made_by=f'dtkd_mmaction {__version__}',
    )
    if class_names is not None:
        content['class_names'] = class_names
    if pipeline is not None:
        content['pipeline'] = pipeline
    return {key: json.dumps(value) for key, value in content.items()}


def traced(
    model: nn.Module,
    example: tuple,
    input_names: List[str],
    output_names: List[str],
    dynamic_shapes: Any = None,
) -> Any:
    """Returns the ``onnx.ModelProto`` of a module.

    Raises:
        ImportError: If onnx or onnxscript is not installed.
        ExportError: If PyTorch cannot export it, with its reason.
    """
    for package in ('onnx', 'onnxscript'):
        optional_package(package)
    with torch.no_grad(), _quiet():
        try:
            program = torch.onnx.export(
                model,
                example,
                dynamo=True,
                opset_version=OPSET,
                input_names=input_names,
                output_names=output_names,
                dynamic_shapes=dynamic_shapes,
                verbose=False,
            )
        except Exception as error:  # whatever the tracer meets
            cause = error.__cause__ or error
            reason = str(cause).strip().splitlines()[:1] or ['']
            raise ExportError(
                f'PyTorch {torch.__version__} cannot export this model: '
                f'{type(cause).__name__}: {reason[0]}'
            ) from error
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences warnings that tell a user of a finished model nothing."""
    loggers = [logging.getLogger(n) for n in ('torch.onnx', 'onnxscript')]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def save_onnx(proto: Any, metadata: Dict[str, str], path: Path) -> None:
    """Writes an ``onnx.ModelProto`` with its metadata after onnx's checks.

    Raises:
        ExportError: If onnx rejects it.
    """
    onnx = optional_package('onnx')
    onnx.helper.set_model_props(proto, metadata)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # one of several classes of onnx
        raise ExportError(f'onnx rejects the graph: {error}') from error
    write_bytes(path, proto.SerializeToString())


def check_with_onnxruntime(
    model: nn.Module, example: Tuple[torch.Tensor, ...], path: Path
) -> None:
    """Compares all outputs of a file with those of the module.

    Raises:
        ExportError: If one differs by more than rounding.
    """
    try:
        onnxruntime = optional_package('onnxruntime')
    except ImportError:
        print_log(
            f'{path} was not compared with PyTorch, because onnxruntime is '
            'not installed: pip install onnxruntime',
            'current',
            level=logging.WARNING,
        )
        return
    session = onnxruntime.InferenceSession(
        str(path), providers=['CPUExecutionProvider']
    )
    names = [graph_input.name for graph_input in session.get_inputs()]
    feed = {name: value.numpy() for name, value in zip(names, example)}
    with torch.no_grad():
        expected = model(*example)
    if isinstance(expected, torch.Tensor):
        expected = (expected,)
    for output, value, found in zip(
        session.get_outputs(), expected, session.run(None, feed)
    ):
        difference = float(np.abs(found - value.numpy()).max())
        allowed = TOLERANCE * float(value.abs().max()) + SMALLEST
        if not difference <= allowed:  # nan, too
            raise ExportError(
                f'{path}: {output.name} of the graph in onnxruntime differ '
                f'from those of PyTorch by up to {difference:.2g}, expected '
                f'at most {allowed:.2g}.'
            )
