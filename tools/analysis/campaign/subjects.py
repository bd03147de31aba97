"""Subjects of the kills: trainings, cache writers and exports."""

import glob
import os
import os.path as osp
import shutil
import sys
from typing import Any, Dict, List, Optional

import cache_teachers
import export_student
import numpy as np
import torch
from mmengine.runner import Runner
from mmengine.runner.checkpoint import find_latest_checkpoint
from torch import Tensor

from .strikes import Outcome, Strike, run
from .workplace import run_config


class Subject:
    """Something that can be killed, started again and compared.

    Args:
        workplace (str): Clips, teachers and config.
        folder (str): Folder for all runs.

    Attributes:
        name (str): Name in the table.
        ranks (int): Number of processes.
    """

    name = ''
    ranks = 1

    def __init__(self, workplace: str, folder: str) -> None:
        self.workplace = workplace
        self.folder = folder
        os.makedirs(folder, exist_ok=True)

    def path(self, run_name: str) -> str:
        """Returns the folder of one run."""
        return osp.join(self.folder, run_name)

    def start(
        self,
        run_name: str,
        again: bool = False,
        strike: Optional[Strike] = None,
    ) -> Outcome:
        """Runs until the end, or until the strike."""
        if not again:
            self.prepare(self.path(run_name))
        return run(
            lambda: self.work(self.path(run_name), again),
            osp.join(self.folder, f'{run_name}.log'),
            self.path(run_name),
            self.ranks,
            strike,
        )

    def prepare(self, path: str) -> None:
        """Prepares the work without strikes."""

    def written(self, path: str) -> int:
        """Returns the bytes of all files that the work has written."""
        return sum(
            osp.getsize(osp.join(folder, file))
            for folder, _, files in os.walk(path)
            for file in files
        )

    def work(self, path: str, again: bool) -> None:
        """Does the work in a forked process."""
        raise NotImplementedError

    def result(self, path: str) -> Any:
        """Returns the results that must be equal after every strike."""
        raise NotImplementedError


class Training(Subject):
    """A distillation with EMA, best checkpoint and exports.

    Args:
        by_epoch (bool): Whether it saves after epochs or after iterations.
        ranks (int): Number of processes.
        options (dict): Other changes to the config.
    """

    def __init__(
        self, *args, by_epoch: bool = True, ranks: int = 1, **options
    ) -> None:
        super().__init__(*args)
        self.ranks = ranks
        self.options = options
        self.by_epoch = by_epoch
        unit = 'epoch' if by_epoch else 'iteration'
        count = 'two processes' if ranks > 1 else 'one process'
        self.name = f'training, {count}, saved every {unit}'

    def work(self, path: str, again: bool) -> None:
        """Trains, or resumes."""
        config = run_config(self.workplace)
        config.work_dir = path
        config.resume = again
        config.launcher = 'pytorch' if self.ranks > 1 else 'none'
        config.merge_from_dict(
            {'default_hooks.checkpoint.by_epoch': self.by_epoch}
        )
        if self.ranks > 1:
            config.train_dataloader.batch_size = 1
        config.merge_from_dict(self.options)
        Runner.from_cfg(config).train()

    def result(self, path: str) -> Dict[str, Any]:
        """Returns all state of the last checkpoint, and all exports."""
        last = load(find_latest_checkpoint(path))
        info = last['message_hub']['runtime_info']
        names = sorted(
            osp.basename(file)
            for pattern in ('*.pth', '*.writing')
            for file in glob.glob(osp.join(path, pattern))
        )
        return dict(
            {part: last[part] for part in STATE if part in last},
            iteration=last['meta']['iter'],
            best_score=info['best_score'],
            files=names,
            exports={
                name: load(osp.join(path, name))['state_dict']
                for name in names
                if name.startswith('student_')
            },
        )


STATE = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')


class CacheWriter(Subject):
    """``tools/cache_teachers.py``, started again until it is done."""

    name = 'teacher cache'

    def work(self, path: str, again: bool) -> None:
        """Writes the missing files of the cache."""
        config = osp.join(self.workplace, 'dtkd.py')
        options = (
            f'--views 2 --shard 2 --batch-size 2 --workers 0 --out {path}'
        )
        sys.argv = ['cache_teachers.py', config, *options.split()]
        cache_teachers.main()

    def result(self, path: str) -> Dict[str, Any]:
        """Returns the bytes of all files."""
        found = {}
        for file in sorted(glob.glob(f'{path}/**', recursive=True)):
            if osp.isfile(file):
                with open(file, 'rb') as opened:
                    found[osp.relpath(file, path)] = opened.read()
        return found


class Export(Subject):
    """``tools/export_student.py``, started again.

    Args:
        run (Training): Training whose checkpoint is exported.
    """

    name = 'export of a student'

    def __init__(self, *args, run: Training) -> None:
        super().__init__(*args)
        self.run = run

    def checkpoint(self) -> str:
        """Returns a run's checkpoint, from a training if there is none."""
        path = self.run.path('whole')
        if not osp.isdir(path):
            self.run.start('whole')
        return find_latest_checkpoint(path)

    def prepare(self, path: str) -> None:
        """Copies a checkpoint of a run."""
        os.makedirs(path, exist_ok=True)
        shutil.copy(self.checkpoint(), osp.join(path, 'run.pth'))

    def written(self, path: str) -> int:
        """Returns the bytes without the copied checkpoint."""
        return super().written(path) - osp.getsize(osp.join(path, 'run.pth'))

    def work(self, path: str, again: bool) -> None:
        """Exports next to the checkpoint."""
        sys.argv = ['export_student.py', osp.join(path, 'run.pth')]
        export_student.main()

    def result(self, path: str) -> Dict[str, Any]:
        """Returns the exported weights and the names of all files."""
        exported = load(osp.join(path, 'student_run.pth'))
        return dict(
            weights=exported['state_dict'], files=sorted(os.listdir(path))
        )


def load(path: str) -> dict:
    """Loads a checkpoint that this campaign has written."""
    return torch.load(path, map_location='cpu', weights_only=False)


def difference(ours: Any, theirs: Any, place: str = '') -> Optional[str]:
    """Finds the first place where two results are not bit for bit equal."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if ours.keys() != theirs.keys():
            return f'{place}: {sorted(map(str, ours.keys() ^ theirs.keys()))}'
        pairs = [(f'{place}/{k}', ours[k], theirs[k]) for k in ours]
    elif isinstance(ours, (list, tuple)) and type(ours) is type(theirs):
        if len(ours) != len(theirs):
            return f'{place}: {ours} and {theirs}'
        pairs = [(f'{place}/{i}', *p) for i, p in enumerate(zip(ours, theirs))]
    elif isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        return None if torch.equal(ours, theirs) else f'{place}: other values'
    elif isinstance(ours, np.ndarray):
        return (
            None if np.array_equal(ours, theirs) else f'{place}: other values'
        )
    else:
        return (
            None if ours == theirs else f'{place}: {ours!r:.60} {theirs!r:.60}'
        )
    found: List[Optional[str]] = [difference(a, b, p) for p, a, b in pairs]
    return next(filter(None, found), None)
