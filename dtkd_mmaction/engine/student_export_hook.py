"""Writes the stock student beside every checkpoint that a run keeps."""

import os
import os.path as osp
from typing import Dict, Optional

from mmaction.registry import HOOKS
from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner.checkpoint import CheckpointLoader, save_checkpoint

from ..deployment.student_export import (
    is_distiller_checkpoint,
    student_checkpoint,
    student_config,
)

PREFIX = 'student_'


@HOOKS.register_module()
class StudentExportHook(Hook):
    """Mirrors the checkpoints of ``CheckpointHook`` as stock students.

    Beside ``best_acc_top1_epoch_9.pth`` comes
    ``student_best_acc_top1_epoch_9.pth``, which plain MMAction2 loads with
    ``strict=True``, and ``student_config.py``, with which it tests it. When
    the run drops a checkpoint (``max_keep_ckpts``), its student goes too.
    """

    priority = 'LOWEST'  # after CheckpointHook

    def __init__(self) -> None:
        self._written: Dict[str, float] = {}

    def before_train(self, runner) -> None:
        """Find the checkpoint hook and what an earlier run exported."""
        hooks = [h for h in runner.hooks if isinstance(h, CheckpointHook)]
        self._checkpoints: Optional[CheckpointHook] = next(iter(hooks), None)
        if self._checkpoints is not None:
            for name in self._kept():
                student = self._student_path(name)
                if osp.isfile(student):
                    self._written[name] = osp.getmtime(student)

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        """Mirror, where checkpoints come by iteration."""
        if self._checkpoints is not None and not self._checkpoints.by_epoch:
            self._mirror(runner)

    def after_train_epoch(self, runner) -> None:
        """Mirror what the epoch left."""
        self._mirror(runner)

    def after_val_epoch(self, runner, metrics=None) -> None:
        """Mirror the new best, if there is one."""
        if runner.train_loop is not None:
            self._mirror(runner)

    def _kept(self) -> Dict[str, float]:
        """Checkpoints in the work dir: name -> time of writing."""
        folder = self._checkpoints.out_dir
        return {
            name: osp.getmtime(osp.join(folder, name))
            for name in os.listdir(folder)
            if name.endswith('.pth') and not name.startswith(PREFIX)
        }

    def _student_path(self, name: str) -> str:
        return osp.join(self._checkpoints.out_dir, PREFIX + name)

    @master_only
    def _mirror(self, runner) -> None:
        if self._checkpoints is None:
            return
        kept = self._kept()
        for name in set(self._written) - set(kept):
            del self._written[name]
            if osp.isfile(self._student_path(name)):
                os.remove(self._student_path(name))
        for name, written in kept.items():
            if self._written.get(name, 0) >= written:
                continue
            self._written[name] = written
            source = osp.join(self._checkpoints.out_dir, name)
            checkpoint = CheckpointLoader.load_checkpoint(
                source, map_location='cpu'
            )
            if is_distiller_checkpoint(checkpoint):
                save_checkpoint(
                    student_checkpoint(checkpoint), self._student_path(name)
                )
                student_config(runner.cfg).dump(
                    osp.join(self._checkpoints.out_dir, 'student_config.py')
                )
