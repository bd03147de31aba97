"""Finds trainings on the disk and reads what they left."""

import functools
import json
import os
import os.path as osp
import re
from dataclasses import dataclass, field
from glob import escape, glob
from typing import Any, Dict, Iterable, List, Optional, Sequence

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings
from plot_run import Run as Log
from plot_run import find_logs, read_run
from reproduction.nested import map_strings
from reproduction.records import (
    RESULT,
    epoch_of,
    final_checkpoint,
    read_record,
)

from dtkd_mmaction.files import read_text
from dtkd_mmaction.literals import parse_literals

# Keys of a config that differ between seeds of one training.
OF_ONE_RUN = ('work_dir', 'randomness', 'launcher', 'resume')
# Folders that `reproduce.py --retrain` has moved aside.
REPLACED = re.compile(r'\.replaced\d+$')
SEED_FOLDER = re.compile(r'seed_?\d+$')


@dataclass
class TrainedRun:
    """One training with everything that it left in its work dir.

    Attributes:
        work_dir (str): Its folder.
        config (Config): The config as trained, relative paths resolved.
        text (str): The config as it was written when training began.
        log (Log): Scalars of training and validation.
        record (dict): ``result.json`` of ``tools/reproduce.py``, or empty.
        name (str): Its folder, or the one above if that is of one seed.
    """

    work_dir: str
    config: Config
    text: str
    log: Log
    record: Dict[str, Any] = field(default_factory=dict)
    name: str = ''

    @property
    def seed(self) -> Optional[int]:
        """The seed of the config; None for a random one."""
        return (self.config.get('randomness') or {}).get('seed')

    @property
    def is_distilled(self) -> bool:
        """Whether a distiller was trained."""
        return 'student' in self.config.model

    @functools.cached_property
    def checkpoint(self) -> str:
        """The best checkpoint if the config keeps one, else the last one.

        Raises:
            ValueError: If there is none.
        """
        if self.record:
            path = osp.join(self.work_dir, self.record['checkpoint'])
            if not osp.isfile(path):
                raise ValueError(f'{path} is gone.')
            return path
        return final_checkpoint(self)

    @property
    def chosen_by_accuracy(self) -> bool:
        """Whether the checkpoint is the best one of all validations."""
        hooks = self.config.get('default_hooks') or {}
        return bool((hooks.get('checkpoint') or {}).get('save_best'))

    def metrics(self) -> Dict[str, float]:
        """Returns the logged validation of the checkpoint; empty if none."""
        if self.record:
            return self.record['metrics']
        try:
            epoch = epoch_of(self.checkpoint)
        except ValueError:
            return {}
        found = [r for r in self.log.validation if r.get('step') == epoch]
        return (
            {k: v for k, v in found[-1].items() if '/' in k} if found else {}
        )

    def seconds(self) -> Optional[float]:
        """Returns the time of all launches, if it was recorded."""
        launches = self.record.get('launches', [])
        known = [x['seconds'] for x in launches if 'seconds' in x]
        return sum(known) if known else None

    def group_key(self) -> str:
        """Returns what all seeds of one training have in common."""
        content = self.config.to_dict()
        for key in OF_ONE_RUN:
            content.pop(key, None)
        return json.dumps(content, sort_keys=True, default=str)


def find_work_dirs(folder: str) -> List[str]:
    """Finds the work dirs at or below a folder.

    Raises:
        SystemExit: If there is no such folder.
    """
    if not osp.isdir(folder):
        raise SystemExit(f'{folder}: there is no such folder.')
    found = []
    for path, names, _ in os.walk(folder):
        names[:] = sorted(
            name
            for name in names
            if not name.startswith('.') and not REPLACED.search(name)
        )
        if glob(osp.join(escape(path), '*', 'vis_data', '*.json')):
            found.append(path)
            names[:] = [
                name
                for name in names
                if not osp.isdir(osp.join(path, name, 'vis_data'))
            ]
    return found


def read_trained_run(work_dir: str, roots: Sequence[str] = ()) -> TrainedRun:
    """Reads the config, the logs and the record of a work dir.

    Args:
        work_dir (str): The folder that holds the checkpoints.
        roots (Sequence[str]): Folders in which relative paths of the config
            are looked up as well.

    Raises:
        ValueError: If it holds no training, or a damaged file.
    """
    try:
        log = read_run(work_dir)
        path = osp.join(osp.dirname(find_logs(work_dir)[-1]), 'config.py')
        text = read_text(path)
        content = parse_literals(text, path)
    except OSError as error:
        raise ValueError(f'{work_dir}: {error}') from error
    if not isinstance(content.get('model'), dict):
        raise ValueError(f'{path}: it has no `model`.')
    resolve = functools.partial(find_in, roots=roots)
    config = Config(map_strings(content, resolve))
    imports = config.get('custom_imports')
    if imports:
        import_modules_from_strings(**dict(imports, allow_failed_imports=True))
    record = read_record(osp.join(work_dir, RESULT)) or {}
    folder = osp.abspath(work_dir)
    if SEED_FOLDER.fullmatch(osp.basename(folder)):
        folder = osp.dirname(folder)
    name = osp.basename(folder)
    return TrainedRun(osp.abspath(work_dir), config, text, log, record, name)


def find_in(value: str, roots: Iterable[str]) -> str:
    """Returns a relative path below the first root where it is there."""
    if osp.isabs(value) or '/' not in value or glob(value):
        return value
    for root in roots:
        path = osp.join(root, value)
        if glob(path):
            return path
    return value


def group_runs(runs: Iterable[TrainedRun]) -> List[List[TrainedRun]]:
    """Puts the seeds of one training together, in order of their seeds."""
    groups: Dict[str, List[TrainedRun]] = {}
    for run in runs:
        groups.setdefault(run.group_key(), []).append(run)
    return [
        sorted(group, key=lambda run: (run.seed is None, run.seed))
        for group in groups.values()
    ]
