"""Checkpoint hook that always leaves a complete checkpoint on disk."""

import os.path as osp
import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

from mmaction.registry import HOOKS
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook

from ..file_lock import FolderLock
from ..files import clear_left_overs, write_bytes, write_text
from .rank_buffers import KEY as RANK_BUFFERS
from .rank_buffers import gather_rank_buffers, restore_rank_buffers
from .run_files import RunFiles

INTERRUPTED = 'interrupted.pth'
LAST = 'last_checkpoint'
# A process that was just killed may still be ending.
LOCK_SECONDS = 5.0


@register_backend('atomic_local')
class AtomicLocalBackend(LocalBackend):
    """MMEngine's local files, written by :mod:`dtkd_mmaction.files`."""

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        """Writes a file atomically."""
        write_bytes(filepath, obj)

    def put_text(
        self, obj: str, filepath: Union[str, Path], encoding: str = 'utf-8'
    ) -> None:
        """Writes text atomically."""
        write_bytes(filepath, obj.encode(encoding))


class _DeferredRemovals(AtomicLocalBackend):
    """Collects the names of files to remove later."""

    def __init__(self) -> None:
        self.removed: List[str] = []

    def remove(self, filepath: Union[str, Path]) -> None:
        """Adds a file."""
        self.removed.append(str(filepath))


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook``, with a complete checkpoint at any moment.

    - Files are written under a temporary name and renamed. A file that
      ``max_keep_ckpts`` or a new best checkpoint replaces is removed only
      after the new file exists.
    - It removes only files that this run has written and recorded
      (:class:`RunFiles`). The next start removes files that a killed run left
      behind.
    - A work dir can be moved, copied or accessed through another path.
    - A work dir belongs to one training at a time, see :class:`FolderLock`.

    :class:`ResumableTrainLoop` calls it when the run receives SIGTERM.

    Args:
        backend_args (dict, optional): As in ``CheckpointHook``. Defaults to
            local files written atomically.
        **kwargs: Arguments of ``CheckpointHook``.

    Example:
        >>> from mmaction.registry import HOOKS
        >>> hook = HOOKS.build(
        ...     dict(type='AtomicCheckpointHook', interval=1, max_keep_ckpts=2)
        ... )
        >>> hook.backend_args
        {'backend': 'atomic_local'}
    """

    # Attributes of CheckpointHook.
    best_ckpt_path: Optional[str]
    best_ckpt_path_dict: Dict[str, Optional[str]]
    file_backend: Any

    def __init__(
        self, *args, backend_args: Optional[dict] = None, **kwargs
    ) -> None:
        backend_args = backend_args or dict(backend='atomic_local')
        super().__init__(*args, backend_args=backend_args, **kwargs)
        self._locks: List[FolderLock] = []
        self._rank_buffers: List[dict] = []

    def before_train(self, runner) -> None:
        """Locks the work dir and removes files that a killed run left.

        Raises:
            RuntimeError: If another training uses the work dir.
            ValueError: If a checkpoint would be written between two steps of
                an accumulated gradient, because it does not contain the
                gradient.
        """
        self._lock(runner.work_dir, 'work_dir')
        super().before_train(runner)
        if osp.realpath(self.out_dir) != osp.realpath(runner.work_dir):
            self._lock(self.out_dir, 'default_hooks.checkpoint.out_dir')
        steps = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if not self.by_epoch and self.interval % steps:
            raise ValueError(
                f'default_hooks.checkpoint.interval={self.interval} is no '
                f'multiple of optim_wrapper.accumulative_counts={steps}: '
                'such a checkpoint would lose half an accumulated gradient.'
            )
        self._rebase(runner)
        self._files = RunFiles.of(runner)
        if is_main_process():
            for folder in {runner.work_dir, self.out_dir}:
                clear_left_overs(folder)
            self._clear_superfluous(runner)

    def after_run(self, runner) -> None:
        """Releases the lock of the work dir."""
        while self._locks:
            self._locks.pop().release()

    def _lock(self, folder: str, key: str) -> None:
        problem: List[Optional[str]] = [None]
        if is_main_process():
            lock = FolderLock(folder)
            if lock.take(LOCK_SECONDS):
                self._locks.append(lock)
            else:
                problem = [
                    f'{key}={folder!r} belongs to another training: '
                    f'{lock.holder()} ({lock.path}). Stop it, or give this '
                    'one another work_dir.'
                ]
        broadcast_object_list(problem)
        if problem[0] is not None:
            raise RuntimeError(problem[0])

    def _rebase(self, runner) -> None:
        """Looks for recorded checkpoints where the work dir is now."""
        hub = runner.message_hub
        if self.save_best and len(self.key_indicators) == 1:
            self.best_ckpt_path = self._here(self.best_ckpt_path)
        elif self.save_best:
            self.best_ckpt_path_dict = {
                indicator: self._here(path)
                for indicator, path in self.best_ckpt_path_dict.items()
            }
        for key in list(hub.runtime_info):
            if key == 'last_ckpt' or re.match(r'best_ckpt(_|$)', key):
                hub.update_info(key, self._here(hub.get_info(key)))

    @staticmethod
    def _noted(runner, key: str) -> Optional[str]:
        hub = runner.message_hub
        return hub.get_info(key) if key in hub.runtime_info else None

    def _here(self, path: Optional[str]) -> Optional[str]:
        if path is None:
            return None
        return self.file_backend.join_path(self.out_dir, osp.basename(path))

    def _clear_superfluous(self, runner) -> None:
        """Removes recorded files that the resumed state does not have.

        They exist if the run was killed between saving a file and removing the
        previous one. If the user resumed from an older checkpoint, they are
        kept.
        """
        superfluous = [
            name for name in self._files.names if self._is_superfluous(name)
        ]
        resumed = self._noted(runner, 'last_ckpt')
        last = last_checkpoint_of(runner.work_dir)
        if resumed and last and osp.basename(resumed) == osp.basename(last):
            for name in superfluous:
                self._remove(name)
        elif superfluous:
            runner.logger.warning(
                f'Leaving {superfluous} in {self.out_dir}: this run was '
                'resumed from an older checkpoint.'
            )
            self._files.drop(*superfluous)
        elif last and not resumed:
            runner.logger.warning(
                f'{runner.work_dir} holds checkpoints of another training. '
                'This one starts from the beginning and overwrites those of '
                'the same name. To continue the other one, use --resume.'
            )

    def _is_superfluous(self, name: str) -> bool:
        regular = re.escape(self.filename_tmpl).replace(r'\{\}', r'(\d+)')
        for indicator, path in self._best_paths().items():
            prefix = re.escape(f'best_{indicator}_'.replace('/', '_'))
            if indicator == 'auto':
                prefix = 'best_.*_'
            if path is not None and re.fullmatch(prefix + regular, name):
                return name != osp.basename(path)
        step = re.fullmatch(regular, name)
        return (
            self.max_keep_ckpts > 0
            and step is not None
            and int(step[1]) not in self.keep_ckpt_ids
        )

    def _remove(self, name: str) -> None:
        """Removes a file of this run, if it exists."""
        path = self.file_backend.join_path(self.out_dir, name)
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        self._files.drop(name)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Records the file and adds the buffers that other processes need."""
        paths = [self.last_ckpt, *self._best_paths().values()]
        self._files.add(*(osp.basename(path) for path in paths if path))
        if self._rank_buffers:
            checkpoint[RANK_BUFFERS] = self._rank_buffers
            self._rank_buffers = []

    def save_interrupted(self, runner) -> None:
        """Saves the state between two iterations, for ``--resume``."""
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
            for name in map(self.filename_tmpl.format, outdated):
                self._remove(name)
            if INTERRUPTED in self._files.names:
                self._remove(INTERRUPTED)

    def _write(self, runner, name: str, meta: dict) -> None:
        """Writes a checkpoint, then notes that it is the last one."""
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
            write_text(osp.join(runner.work_dir, LAST), self.last_ckpt)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Restores the buffers of this process."""
        if runner._resume:
            restore_rank_buffers(runner, checkpoint)

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        backend = self.file_backend
        self.file_backend = later = _DeferredRemovals()
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        for path in set(later.removed) - set(self._best_paths().values()):
            self._remove(osp.basename(path))

    def _best_paths(self) -> Dict[str, Optional[str]]:
        """Returns the best checkpoint so far by indicator."""
        if not self.save_best:
            return {}
        if len(self.key_indicators) == 1:
            return {self.key_indicators[0]: self.best_ckpt_path}
        return self.best_ckpt_path_dict


def last_checkpoint_of(work_dir: str) -> Optional[str]:
    """Returns the path in ``last_checkpoint`` of a work dir, or None."""
    path = osp.join(work_dir, LAST)
    if not osp.isfile(path):
        return None
    with open(path, encoding='utf-8', errors='replace') as file:
        return file.read().strip() or None
