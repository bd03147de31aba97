"""From a checkpoint or the folder of a run to a stock model and its data."""

import contextlib
import copy
import glob
import os
import os.path as osp
from typing import Any, List, NamedTuple, Optional, Tuple

import torch.nn as nn
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.utils import import_modules_from_strings

from dtkd_mmaction.deployment.student_export import (
    distiller_class,
    is_distiller_checkpoint,
    student_checkpoint,
    student_config,
)
from dtkd_mmaction.files import DamagedFileError, read_text
from dtkd_mmaction.literals import parse_literals
from dtkd_mmaction.recognizers.model_spec import (
    build_recognizer,
    checkpoint_state_dict,
    forget_pretraining,
)

PREFIX = 'student_'


class StudentError(ValueError):
    """A path that leads to no stock model."""


class Student(NamedTuple):
    """A stock model with its weights.

    Attributes:
        recognizer (nn.Module): In eval mode, on the CPU.
        config (Config): Config of the run, or of the exported student. It
            has the pipelines and the lists.
        checkpoint (dict): Its stock checkpoint: ``meta``, ``state_dict``.
        path (str): The file that was read.
    """

    recognizer: nn.Module
    config: Config
    checkpoint: dict
    path: str

    def dataset(self, part: str) -> Optional[dict]:
        """Returns the config of a data set that gives plain samples.

        Args:
            part (str): ``'train'``, ``'val'`` or ``'test'``.

        Returns:
            dict or None: With the pipeline of its own; None if the config
                has no such data.
        """
        loader = self.config.get(f'{part}_dataloader')
        if not loader:
            return None
        dataset = copy.deepcopy(loader['dataset'])
        while 'dataset' in dataset:  # KeyedViewDataset, RepeatDataset
            dataset = dataset['dataset']
        return dataset


def load_student(path: str, config_path: Optional[str] = None) -> Student:
    """Loads a student.

    Args:
        path (str): A checkpoint, of a stock model or of a distiller, or the
            folder of a run. In a folder the best checkpoint is taken, and
            the last one if there is no best.
        config_path (str, optional): Config for a checkpoint that does not
            hold its own.

    Raises:
        StudentError: If there is no checkpoint, no config, or they do not
            fit.
    """
    if osp.isdir(path):
        path = checkpoint_in(path)
    try:
        checkpoint = CheckpointLoader.load_checkpoint(path, 'cpu')
    except (OSError, RuntimeError) as error:
        raise StudentError(f'{path} cannot be read: {error}') from error
    try:
        config, model_config = find_configs(path, checkpoint, config_path)
        if is_distiller_checkpoint(checkpoint):
            checkpoint = student_checkpoint(checkpoint, cfg=config_path)
            model_config = _from_text(checkpoint['meta']['cfg'], path)
        elif distiller_class(model_config) is not None:
            model_config = student_config(model_config)
        init_default_scope('mmaction')
        for source in (config, model_config):
            if source.get('custom_imports'):
                import_modules_from_strings(**source['custom_imports'])
        model_config = copy.deepcopy(model_config)
        forget_pretraining(model_config.model)
        recognizer = build_recognizer(model_config, 'model')
        weights = checkpoint_state_dict(checkpoint)
        recognizer.load_state_dict(weights, strict=True)
    except (KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise StudentError(f'{path}: {_short(error)}') from error
    stock = dict(
        meta=dict(checkpoint.get('meta') or {}, cfg=model_config.pretty_text),
        state_dict=weights,
    )
    return Student(recognizer.eval(), config, stock, path)


def checkpoint_in(folder: str) -> str:
    """Returns the best or the last checkpoint in the folder of a run.

    Raises:
        StudentError: If there is none.
    """

    def newest(pattern: str) -> Optional[str]:
        names = glob.glob(osp.join(glob.escape(folder), pattern))
        return max(names, key=os.path.getmtime, default=None)

    found = newest('best_*.pth')
    if found is None and osp.isfile(osp.join(folder, 'last_checkpoint')):
        last = read_text(osp.join(folder, 'last_checkpoint')).strip()
        moved = osp.join(folder, osp.basename(last))
        found = moved if osp.isfile(moved) else None
    for pattern in ('epoch_*.pth', 'iter_*.pth', f'{PREFIX}*.pth', '*.pth'):
        found = found or newest(pattern)
    if found is None:
        raise StudentError(
            f'{folder} holds no checkpoint (*.pth). Name the folder of a run '
            'that has trained, or a checkpoint.'
        )
    return found


def find_configs(
    path: str, checkpoint: dict, config_path: Optional[str]
) -> Tuple[Config, Config]:
    """Returns the configs of the run and of the model of a checkpoint.

    They are ``config_path``, else the config in the checkpoint. The config
    of an exported student has no training data, so the one that its run left
    beside it is looked for, too.

    Raises:
        StudentError: If there is no config.
    """
    if config_path is not None:
        try:
            config = Config.fromfile(config_path)
        except (OSError, ValueError, KeyError, SyntaxError) as error:
            raise StudentError(
                f'--config {config_path} cannot be read: {error}'
            ) from error
        return config, config
    text = (checkpoint.get('meta') or {}).get('cfg')
    own = _from_text(text, path) if text else None
    if own is not None and 'train_dataloader' in own:
        return own, own
    beside = [config for config in _configs_beside(path) if 'model' in config]
    runs = [config for config in beside if 'train_dataloader' in config]
    run = next(iter([*runs, *([own] if own else []), *beside]), None)
    if run is None:
        raise StudentError(
            'the checkpoint does not hold its config, and there is none '
            'beside it. Name it with --config.'
        )
    return run, own or run


def _configs_beside(path: str) -> List[Config]:
    """Reads the configs that MMEngine wrote beside a checkpoint.

    They are literals. Any other file of Python is left alone, because it
    would have to be executed.
    """
    folder = glob.escape(osp.dirname(osp.abspath(path)))
    configs = []
    for name in sorted(glob.glob(osp.join(folder, '*.py'))):
        with contextlib.suppress(DamagedFileError):
            content = parse_literals(read_text(name), name)
            if '_base_' not in content:
                configs.append(Config(content))
    return configs


def _from_text(text: str, path: str) -> Config:
    try:
        return Config(parse_literals(text, f"{path}: meta['cfg']"))
    except ValueError as error:
        raise StudentError(
            f'{error} Name the config with --config.'
        ) from error


def _short(error: Any) -> str:
    """Returns the first lines of a message, which can name every weight."""
    text = str(error).strip()
    return text if len(text) < 600 else f'{text[:600]} ...'
