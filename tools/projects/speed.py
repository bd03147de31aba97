"""Measures how fast this machine is, and estimates a project's time."""

import time
from typing import Callable, Dict, List, NamedTuple, Tuple

import torch
from mmaction.registry import DATASETS
from mmengine.config import Config
from mmengine.device import get_device

from dtkd_mmaction.datasets import KeyedViewDataset
from dtkd_mmaction.recognizers.model_spec import build_recognizer

from .plan import Plan
from .zoo import Model

# Clips of a timed step, and clips that are decoded.
CLIPS = 2
REPEATS = 3
# Random views of a probe, in addition to the centred one.
PROBE_VIEWS = 4
# Losses and branch of a distillation, relative to the student's own step.
DISTILLATION = 1.25


class Speed(NamedTuple):
    """Seconds per clip.

    Attributes:
        decode (float): Reading and augmenting the shared clip.
        student (float): A training step of the student.
        vit (float): A pass of the ViT teacher; a training step if it is
            trained.
        cnn (float): The same of the CNN teacher.
    """

    decode: float
    student: float
    vit: float
    cnn: float


def measure(plan: Plan, config: Config) -> Speed:
    """Times one small step of each model and a few clips.

    Args:
        plan (Plan): Names the models.
        config (Config): The distillation config.
    """
    return Speed(
        decode_seconds(config),
        model_seconds(plan.student, True),
        model_seconds(plan.vit_teacher, not plan.vit_teacher.probed),
        model_seconds(plan.cnn_teacher, not plan.cnn_teacher.probed),
    )


def decode_seconds(config: Config) -> float:
    """Returns the seconds for one training clip."""
    dataset: KeyedViewDataset = DATASETS.build(
        dict(config.train_dataloader.dataset, views=None, kept_in=None)
    )
    count = min(CLIPS, len(dataset))
    begun = time.perf_counter()
    for index in range(count):
        dataset[index, 0]
    return (time.perf_counter() - begun) / count


def model_seconds(model: Model, trained: bool) -> float:
    """Returns the seconds per clip of a pass, or of a training step."""
    recognizer = build_recognizer(Config(dict(model=model.model)), 'model')
    recognizer.train(trained).to(get_device())
    shape = (3, model.frames, model.size, model.size)
    if model.is_2d:
        shape = (model.frames, 3, model.size, model.size)
    else:
        shape = (1, *shape)
    inputs = torch.rand(CLIPS, *shape, device=get_device())

    def step() -> None:
        with torch.set_grad_enabled(trained):
            output = recognizer(inputs, mode='tensor')
            if trained:
                sum(value.sum() for value in tensors(output)).backward()

    step()  # allocates
    # Other programs disturb some of the calls.
    return min(timed(step) for _ in range(REPEATS)) / CLIPS


def timed(step: Callable[[], None]) -> float:
    """Returns the seconds of one call."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    begun = time.perf_counter()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def tensors(value: object) -> List[torch.Tensor]:
    """Returns all tensors in nested lists, tuples and dicts."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in tensors(item)]
    return []


def estimate(plan: Plan, speed: Speed) -> Dict[str, float]:
    """Estimates the seconds of every stage.

    Returns:
        dict[str, float]: Row of the table, or ``teacher cache`` -> seconds.
    """
    train, val = plan.counts['train'], plan.counts['val']
    decode = speed.decode / max(plan.workers, 1)
    epochs = plan.epochs
    stages: Dict[str, float] = {}
    for name, model, seconds in (
        ('ViT teacher', plan.vit_teacher, speed.vit),
        ('CNN teacher', plan.cnn_teacher, speed.cnn),
    ):
        passes = 1 + PROBE_VIEWS if model.probed else epochs
        stages[name] = (passes * train + val) * (seconds + decode)
    decoded = min(plan.views, epochs) if plan.kept else epochs
    stages['student alone'] = train * (
        epochs * speed.student + decoded * decode
    )
    # A pass of a model takes a third of a training step.
    teachers = sum(
        seconds if model.probed else seconds / 3
        for model, seconds in (
            (plan.vit_teacher, speed.vit),
            (plan.cnn_teacher, speed.cnn),
        )
    )
    step = DISTILLATION * speed.student
    if plan.cached:
        stages['teacher cache'] = plan.views * train * (teachers + decode)
    else:
        step += teachers
    stages['DT-KD'] = train * (epochs * step + decoded * decode)
    return stages


def readable(seconds: float) -> str:
    """Returns a duration with one unit."""
    units: Tuple[Tuple[str, float], ...] = (
        ('days', 86400),
        ('h', 3600),
        ('min', 60),
    )
    for unit, length in units:
        if seconds >= 1.5 * length:
            return f'{seconds / length:.3g} {unit}'
    return f'{max(seconds, 1):.0f} s'
