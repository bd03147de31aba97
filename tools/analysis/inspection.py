"""Builds a distiller and its clips for inspection, without training.

Shared by the tools that inspect single clips (``tools/analysis``): the
    distiller of a config, the weights of a run, and one deterministic view of
    every clip.
"""

import copy
from typing import List, Optional, Tuple

import torch
import torch.nn as nn
from mmaction.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

from dtkd_mmaction.deployment.student_export import (
    is_distiller_checkpoint,
    student_checkpoint,
)
from dtkd_mmaction.distillers.base import BaseDistiller
from dtkd_mmaction.recognizers.model_spec import (
    checkpoint_state_dict,
    find_checkpoint,
    stock_clip,
)
from dtkd_mmaction.recognizers.recording import Recording
from dtkd_mmaction.recognizers.tapped_recognizer import model_inputs

SAMPLERS = ('SampleFrames', 'UniformSample', 'DenseSampleFrames')
RANDOM_CROPS = ('RandomResizedCrop', 'RandomCrop', 'MultiScaleCrop')
# Augmentations that keep the size of a clip.
AUGMENTATIONS = (
    'Flip',
    'ColorJitter',
    'RandomErasing',
    'TorchVisionWrapper',
    'PytorchVideoWrapper',
    'ImgAug',
)


def build_distiller(
    path: str, cfg_options: Optional[dict] = None
) -> Tuple[Config, BaseDistiller]:
    """Builds the config's distiller in eval mode on the available device.

    Teachers are live and in eval mode; ``teacher_cache`` and ``teacher_mode``
    of the config are ignored.

    Args:
        path (str): A distillation config.
        cfg_options (dict, optional): Changes to it.

    Returns:
        tuple[Config, BaseDistiller]

    Raises:
        ValueError: If its model is not a distiller.
    """
    config = Config.fromfile(path)
    config.merge_from_dict(cfg_options or {})
    return config, distiller_of(config, path)


def distiller_of(config: Config, source: str) -> BaseDistiller:
    """Builds the distiller of a config, see :func:`build_distiller`.

    Args:
        config (Config): A distillation config.
        source (str): Its file, for messages.
    """
    init_default_scope('mmaction')
    model_config = copy.deepcopy(config.model)
    for option in ('teacher_cache', 'teacher_mode'):
        model_config.pop(option, None)
    model = MODELS.build(model_config)
    if not isinstance(model, BaseDistiller):
        raise ValueError(
            f'{source}: its model is a {config.model.type}. A distillation '
            'config is needed, one that names a student and teachers '
            '(configs/dtkd).'
        )
    return model.to(get_device()).eval()


def innermost(dataset: dict) -> dict:
    """Returns the data set inside a config's wrappers."""
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def centre_pipeline(pipeline: List[dict]) -> List[dict]:
    """Removes all randomness from a training pipeline.

    It returns clips with as many frames and of the same size as in training:
        the middle of the video and of the frame, not flipped. For a training
        pipeline of ``configs/_base_/datasets``, it is the ``val_pipeline``
        with which the teachers were evaluated in stage one.

    Args:
        pipeline (list[dict]): Stock transforms.

    Returns:
        list[dict]: Frame samplers in test mode; a random crop becomes the
            centre crop with the final size of the clips (of the whole frame,
            if it is not resized before); no augmentation.
    """
    size = stock_clip(Config(dict(train_pipeline=pipeline)))['size']
    centred: List[dict] = []
    for transform in copy.deepcopy(pipeline):
        name = transform['type']
        if name in SAMPLERS:
            transform['test_mode'] = True
            transform.pop('temporal_jitter', None)
        elif name in RANDOM_CROPS:
            if not any(t['type'] == 'Resize' for t in centred):
                centred.append(dict(type='Resize', scale=(-1, size)))
            transform = dict(type='CenterCrop', crop_size=size)
        elif name in AUGMENTATIONS:
            continue
        centred.append(transform)
    return centred


def centred_dataset(config: Config, split: str) -> BaseDataset:
    """Builds the shared clips of a list without randomness.

    Args:
        config (Config): A distillation config.
        split (str): ``'train'`` or ``'val'``. Both use the training pipeline
            (:func:`centre_pipeline`), because the config's ``val_pipeline``
            ends in the student's size, and every model must take its own view
            of one clip.

    Returns:
        BaseDataset: Data set of raw clips; an unreadable clip is an error.
    """
    training = innermost(config.train_dataloader.dataset)
    listed = innermost(config[f'{split}_dataloader'].dataset)
    return DATASETS.build(
        dict(
            listed,
            pipeline=centre_pipeline(training.pipeline),
            test_mode=True,
        )
    )


def read_checkpoint(path: str) -> dict:
    """Reads a checkpoint from a path, a URL or a pattern of one file."""
    return CheckpointLoader.load_checkpoint(
        find_checkpoint(path), map_location='cpu'
    )


def student_state(path: str) -> dict:
    """Returns the student's weights from a run or an exported checkpoint."""
    checkpoint = read_checkpoint(path)
    if is_distiller_checkpoint(checkpoint):
        # without `meta`, because its config is not needed here
        checkpoint = student_checkpoint(
            dict(state_dict=checkpoint['state_dict'])
        )
    return checkpoint_state_dict(checkpoint)


def load_exactly(model: nn.Module, state_dict: dict, path: str) -> None:
    """Loads weights; every tensor must fit.

    Raises:
        ValueError: If one is missing, surplus, or of another shape.
    """
    try:
        model.load_state_dict(state_dict)
    except RuntimeError as error:
        raise ValueError(f'{path} does not fit the config: {error}') from error


@torch.no_grad()
def ask_student(distiller: BaseDistiller, clips: Tensor) -> Recording:
    """Runs the student on shared clips, without gradient.

    Args:
        distiller (BaseDistiller): In eval mode.
        clips (Tensor): (B, 1, 3, T, H, W), raw.

    Returns:
        Recording: Its logits and map.
    """
    inputs = model_inputs(distiller.student, distiller.student_view, clips)
    with distiller.student_tap.record(inputs) as recording:
        distiller.student.extract_feat(inputs, stage='head')
    return recording
