"""Checkpoints that a kill cannot lose."""

import glob
import os
import os.path as osp
from pathlib import Path
from typing import Dict, List, Optional, Union

from mmaction.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.utils import mkdir_or_exist

from .rank_buffers import KEY as RANK_BUFFERS
from .rank_buffers import gather_rank_buffers, restore_rank_buffers

INTERRUPTED = 'interrupted.pth'


@register_backend('atomic_local')
class AtomicLocalBackend(LocalBackend):
    """MMEngine's local files; a file is there as a whole or not at all."""

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        """Write beside the file, then take its place."""
        temporary = f'{filepath}.{os.getpid()}.writing'
        mkdir_or_exist(osp.dirname(filepath))
        with open(temporary, 'wb') as file:
            file.write(obj)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, filepath)

    def put_text(
        self, obj: str, filepath: Union[str, Path], encoding: str = 'utf-8'
    ) -> None:
        """Likewise for text."""
        self.put(obj.encode(encoding), filepath)


class RemovesLater(AtomicLocalBackend):
    """Notes what is to be removed; it is still needed."""

    def __init__(self) -> None:
        self.removed: List[str] = []

    def remove(self, filepath: Union[str, Path]) -> None:
        """Note a file."""
        self.removed.append(str(filepath))


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook``, with a good checkpoint at any moment.

    Files are written beside their place and moved there, and what
    ``max_keep_ckpts`` or a new best makes superfluous is removed after the
    new file is there, not before. :class:`ResumableTrainLoop` has it save
    when the run is told to stop.

    Args:
        backend_args (dict, optional): As in ``CheckpointHook``. Defaults to
            local files written atomically.
        **kwargs: Those of ``CheckpointHook``.
    """

    def __init__(
        self, *args, backend_args: Optional[dict] = None, **kwargs
    ) -> None:
        backend_args = backend_args or dict(backend='atomic_local')
        super().__init__(*args, backend_args=backend_args, **kwargs)
        self._rank_buffers: List[dict] = []

    def before_train(self, runner) -> None:
        """As ``CheckpointHook``; clears what a kill has left behind.

        Raises:
            ValueError: If a checkpoint would come between two steps of an
                accumulated gradient, which it does not hold.
        """
        super().before_train(runner)
        steps = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if not self.by_epoch and self.interval % steps:
            raise ValueError(
                f'default_hooks.checkpoint.interval={self.interval} is no '
                f'multiple of optim_wrapper.accumulative_counts={steps}: '
                'such a checkpoint would lose half an accumulated gradient.'
            )
        if is_main_process():
            self._clear()

    def _clear(self) -> None:
        stale = glob.glob(osp.join(self.out_dir, '*.writing'))
        for indicator, path in self._best_paths().items():
            if path is not None:
                best = f'best_{indicator}_*.pth'.replace('/', '_')
                stale += set(glob.glob(osp.join(self.out_dir, best))) - {path}
        for path in stale:
            os.remove(path)

    def save_interrupted(self, runner) -> None:
        """Save the state between two iterations, for ``--resume``."""
        self._write(
            runner,
            INTERRUPTED,
            dict(epoch=runner.epoch, iter=runner.iter),
        )

    def _save_checkpoint_with_step(
        self, runner, step: int, meta: dict
    ) -> None:
        outdated: List[int] = []
        if self.max_keep_ckpts > 0:
            kept = [s for s in self.keep_ckpt_ids if s != step] + [step]
            outdated = kept[: -self.max_keep_ckpts]
            self.keep_ckpt_ids.clear()
            self.keep_ckpt_ids.extend(kept[-self.max_keep_ckpts :])
            runner.message_hub.update_info(
                'keep_ckpt_ids', list(self.keep_ckpt_ids)
            )
        self._write(runner, self.filename_tmpl.format(step), meta)
        if is_main_process():
            for name in (
                INTERRUPTED,
                *map(self.filename_tmpl.format, outdated),
            ):
                path = osp.join(self.out_dir, name)
                if self.file_backend.isfile(path):
                    self.file_backend.remove(path)

    def _write(self, runner, name: str, meta: dict) -> None:
        """Write a checkpoint, then say that it is the last one."""
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        self._rank_buffers = gather_rank_buffers(runner)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            AtomicLocalBackend().put_text(
                self.last_ckpt, osp.join(runner.work_dir, 'last_checkpoint')
            )

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Adds what the other processes need to resume."""
        if self._rank_buffers:
            checkpoint[RANK_BUFFERS] = self._rank_buffers
            self._rank_buffers = []

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Gives this process its own buffers back."""
        if runner._resume:
            restore_rank_buffers(runner, checkpoint)

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        backend = self.file_backend
        self.file_backend = later = RemovesLater()
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        for path in set(later.removed) - set(self._best_paths().values()):
            backend.remove(path)

    def _best_paths(self) -> Dict[str, Optional[str]]:
        """Indicator -> the best checkpoint so far."""
        if not self.save_best:
            return {}
        if len(self.key_indicators) == 1:
            return {self.key_indicators[0]: self.best_ckpt_path}
        return self.best_ckpt_path_dict
