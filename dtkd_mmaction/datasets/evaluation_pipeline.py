"""Fits a pipeline of MMAction2 to the clips that a student trains on."""

import copy
from typing import Any, Dict, List, Optional, Tuple, Union

SAMPLERS = ('SampleFrames', 'DenseSampleFrames', 'UniformSample')
CROPS = ('CenterCrop', 'ThreeCrop', 'TenCrop')
Size = Union[int, Tuple[int, int]]


def fit_pipeline(
    pipeline: List[dict],
    frames: Optional[int] = None,
    size: Optional[Size] = None,
    one_view: bool = False,
) -> List[dict]:
    """Returns a pipeline that gives clips of another length and size.

    The clips cover the same time and the same part of the picture: frame
    intervals and the sides before the crop change in proportion.

    Args:
        pipeline (list[dict]): A validation or test pipeline.
        frames (int, optional): Frames of a clip. Defaults to no change.
        size (int or tuple[int, int], optional): Height and width. Defaults to
            no change.
        one_view (bool): Whether to test one central clip per video instead
            of several clips and crops. Defaults to False.

    Returns:
        list[dict]: A new pipeline.

    Raises:
        ValueError: If its way of sampling or resizing is not known.
    """
    pipeline = copy.deepcopy([dict(transform) for transform in pipeline])
    samplers = [t for t in pipeline if t['type'] in SAMPLERS]
    if not samplers and (frames is not None or one_view):
        raise ValueError(
            f'the pipeline has none of {SAMPLERS}: change its number of '
            'frames by hand.'
        )
    for sampler in samplers:
        fit_sampler(sampler, frames, one_view)
    if one_view:
        for transform in pipeline:
            if transform['type'] in CROPS:
                transform['type'] = 'CenterCrop'
    if size is not None:
        fit_size(pipeline, (size, size) if isinstance(size, int) else size)
    return pipeline


def fit_sampler(sampler: dict, frames: Optional[int], one_view: bool) -> None:
    """Changes a sampler of frames in place."""
    length = sampler.get('clip_len', 1)
    if length == 1:  # a 2-D recognizer samples single frames
        if frames is not None:
            sampler['num_clips'] = frames
        return
    if frames is not None:
        sampler['clip_len'] = frames
        if 'frame_interval' in sampler:
            span = sampler['frame_interval'] * length
            sampler['frame_interval'] = max(1, round(span / frames))
    if one_view:
        sampler['num_clips'] = 1


def fit_size(pipeline: List[dict], size: Tuple[int, int]) -> None:
    """Changes crops and resizing in place.

    Args:
        pipeline (list[dict]): A pipeline.
        size (tuple[int, int]): Wanted height and width.
    """
    height, width = size
    last = None
    for transform in reversed(pipeline):
        if transform['type'] in CROPS or transform['type'] == 'Resize':
            last = transform
            break
    if last is None or (
        last['type'] == 'Resize' and last.get('keep_ratio', True)
    ):
        raise ValueError(
            f'the pipeline ends neither in one of {CROPS} nor in a Resize '
            'with keep_ratio=False: change its size by hand.'
        )
    key = 'scale' if last['type'] == 'Resize' else 'crop_size'
    before = last[key]
    shorter = before if isinstance(before, int) else min(before)
    ratio = min(size) / shorter
    # Crops and scales are (width, height).
    last[key] = height if height == width else (width, height)
    if key == 'scale':
        last[key] = (width, height)
    for transform in pipeline:
        if transform['type'] == 'Resize' and transform is not last:
            scale = transform['scale']
            transform['scale'] = (
                scale * ratio
                if isinstance(scale, float)
                else tuple(scaled(side, ratio) for side in scale)
            )


def scaled(side: float, ratio: float) -> float:
    """Returns a scaled side; -1 and infinity, which mean "any", stay."""
    return side if side in (-1, float('inf')) else round(side * ratio)


def replace_pipelines(
    dataset: dict,
    view: Dict[str, Any],
    one_view: bool,
) -> None:
    """Fits the pipelines of a data set config and of its wrappers in place."""
    if 'pipeline' in dataset:
        dataset['pipeline'] = fit_pipeline(
            dataset['pipeline'], view.get('frames'), view.get('size'), one_view
        )
    inner = [dataset.get('dataset'), *(dataset.get('datasets') or [])]
    for other in inner:
        if isinstance(other, dict):
            replace_pipelines(other, view, one_view)
