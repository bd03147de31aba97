"""Estimates the GPU hours of a run from its multiply-adds."""

import hashlib
import json
from typing import Callable, Dict, Optional

from mmengine.config import Config

from dtkd_mmaction.recognizers.complexity import measure_complexity
from dtkd_mmaction.recognizers.model_spec import (
    forget_pretraining,
    load_config,
    set_num_classes,
    stock_clip,
)

from .plan import Run, teacher_specs
from .records import read_record, write_json
from .stages import CACHE, PROBE

# Forward pass, gradient of the weights, gradient of the inputs: equal cost.
TRAINED = 3
FLOPS_PER_MAC = 2


class Counter:
    """Counts the multiply-adds of models once and stores them in a file.

    Args:
        path (str): The file; it need not exist.
        print_line (callable): Prints a line before each count, which takes
            seconds.
    """

    def __init__(self, path: str, print_line: Callable[[str], None]) -> None:
        self.path = path
        self.print_line = print_line
        self.macs: Dict[str, int] = read_record(path) or {}

    def count(self, config: Config, frames: int, size: int, name: str) -> int:
        """Returns the MACs of one forward pass on one clip.

        Args:
            config (Config): Contains the ``model``.
            frames (int): Frames of the clip.
            size (int): Height and width in pixels.
            name (str): Name in the progress message.
        """
        forget_pretraining(config.model)
        model = config.model.to_dict()
        model.pop('data_preprocessor', None)
        text = json.dumps([model, frames, size], sort_keys=True, default=str)
        key = hashlib.sha256(text.encode()).hexdigest()
        if key not in self.macs:
            self.print_line(f'Counting multiply-adds: {name}')
            macs = measure_complexity(config, frames, size).macs
            # Another process may have counted other models meanwhile.
            self.macs = {**(read_record(self.path) or {}), key: macs}
            try:
                write_json(self.path, self.macs)
            except OSError as error:
                self.print_line(f'The counts could not be stored: {error}')
        return self.macs[key]


def gpu_hours(run: Run, tflops: float, counter: Counter) -> Optional[float]:
    """Estimates the GPU hours of a training without its validations.

    (3 x student + teachers) multiply-adds x clips x epochs / throughput; a
    mutual learner's peer is a second student, and a cache costs nothing.

    Args:
        run (Run): A run that has not started.
        tflops (float): Effective 10^12 operations per second of one GPU.
        counter (Counter): Counts the models.

    Returns:
        float, optional: None if the number of clips or epochs is not known.
    """
    epochs = run.config.train_cfg.get('max_epochs')
    if run.kind == PROBE:  # the centred view and the random ones
        epochs = 1 + run.config.probe.get('views', 4)
    elif run.kind == CACHE:
        epochs = run.config.cache_views
    if not run.clips or not epochs:
        return None
    macs = clip_macs(run, counter)
    operations = FLOPS_PER_MAC * macs * run.clips * epochs
    return operations / (tflops * 1e12) / 3600


def clip_macs(run: Run, counter: Counter) -> int:
    """Returns the multiply-adds per clip of a training step."""
    model = run.config.model
    shared = stock_clip(run.config)
    if 'student' not in model:
        config = Config(dict(model=model.to_dict()))
        passes = 1 if run.kind == PROBE else TRAINED
        return passes * counter.count(config, **shared, name=run.source)
    names = () if run.kind == CACHE else ('student', 'peer')
    learners = {n: model[n] for n in names if model.get(n)}
    teachers = {} if model.get('teacher_cache') else teacher_specs(model)
    macs = 0
    for argument, spec in {**learners, **teachers}.items():
        config = load_config(spec, f'model.{argument}')
        set_num_classes(config.model, model.get('num_classes'))
        clip = {**shared, **(spec.get('view') or {})}
        name = f'{argument} of {run.source}'
        times = TRAINED if argument in learners else 1
        macs += times * counter.count(config, **clip, name=name)
    return macs
