"""Builds a stock recognizer with its view and its tap from a model spec."""

from typing import Optional, Tuple

import torch
import torch.nn as nn
from mmaction.models import Recognizer2D
from torch import Tensor

from .clip_view import ClipView, model_inputs
from .feature_tap import FeatureTap
from .grid_layout import ClipShape
from .model_spec import (
    build_recognizer,
    check_spec,
    forget_pretraining,
    load_config,
    set_num_classes,
    stock_clip,
)

# Errors of stock models for a clip that they cannot process.
SHAPE_ERRORS = (RuntimeError, AssertionError, IndexError, KeyError)


def build_tapped(
    spec: dict,
    num_classes: Optional[int],
    key: str,
    keep_pretraining: bool = False,
) -> Tuple[nn.Module, ClipView, FeatureTap]:
    """Builds a stock model, its view and its tap, and tries them out.

    Args:
        spec (dict): Model spec (``docs/configs.md``).
        num_classes (int, optional): Classes of its head, if the spec's
            config has others.
        key (str): Config key of the spec, for messages.
        keep_pretraining (bool): Whether its parts may load the pre-trained
            weights of the stock config. Defaults to False.

    Returns:
        tuple[nn.Module, ClipView, FeatureTap]

    Raises:
        TypeError, ValueError: If the spec is invalid, or the model cannot
            process its view.
    """
    check_spec(spec, key)
    config = load_config(spec, key)
    set_num_classes(config.model, num_classes)
    if not keep_pretraining:
        forget_pretraining(config.model)
    recognizer = build_recognizer(config, key)
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
    except SHAPE_ERRORS as error:
        stock = stock_clip(config)
        raise ValueError(
            f'{key}: {type(recognizer.backbone).__name__} cannot take a view '
            f'of {clip["frames"]} frames of {height}x{width} ({error}). Its '
            f"config's own clips are {stock['frames']} frames of "
            f'{stock["size"]}x{stock["size"]}: set {key}.view to what the '
            'model was built for.'
        ) from error
    return recognizer, view, tap


def fit_tap(
    recognizer: nn.Module, view: ClipView, tap: FeatureTap, clips: Tensor
) -> None:
    """Measures a tap with the clips that its model gets in the training.

    Args:
        recognizer (nn.Module): The stock model.
        view (ClipView): Its view.
        tap (FeatureTap): Its tap, measured before with the clips of the
            stock config or of the view.
        clips (Tensor): (B, 1, 3, T, H, W), raw.

    Raises:
        ValueError: If the model cannot process them.
    """
    inputs = model_inputs(recognizer, view, clips)
    try:
        tap.measure(inputs)
    except SHAPE_ERRORS as error:
        frames, height, width = ClipShape.of(inputs)[1:]
        raise ValueError(
            f'{tap.key}: {type(recognizer.backbone).__name__} cannot take '
            f'{frames} frames of {height}x{width}, the clips of '
            f'train_pipeline ({error}). Set {tap.key}.view to what the model '
            'was built for.'
        ) from error
