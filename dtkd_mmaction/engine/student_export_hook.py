"""Exports the student next to every checkpoint of a run."""

import os
import os.path as osp
import zipfile
from typing import Any, Dict, Set

from mmaction.registry import HOOKS
from mmengine.dist import master_only
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log
from mmengine.runner.checkpoint import CheckpointLoader, save_checkpoint

from ..compat import CheckpointError
from ..deployment.student_export import (
    EXPORTED_CONFIGS,
    config_file,
    exported_configs,
    is_distiller_checkpoint,
    student_checkpoint,
)
from ..files import write_text
from ..literals import parse_literals
from .run_files import RunFiles

PREFIX = 'student_'
CONFIG = 'student_config.py'


@HOOKS.register_module()
class StudentExportHook(Hook):
    """Exports the student of every checkpoint as a stock checkpoint.

    Next to ``best_acc_top1_epoch_9.pth`` it writes
    ``student_best_acc_top1_epoch_9.pth``, which plain MMAction2 loads with
    ``strict=True``, and ``student_config.py``, the config for testing it. When
    the run removes a checkpoint (``max_keep_ckpts``), its export is removed,
    too. Other files in the folder are not touched.

    The student's config is read when training starts, and is stored in every
    checkpoint. Later changes of its file have no effect on the run.

    Example:
        >>> from mmaction.registry import HOOKS
        >>> hook = HOOKS.build(dict(type='StudentExportHook'))
        >>> hook.priority  # after CheckpointHook
        'LOWEST'
    """

    priority = 'LOWEST'  # after CheckpointHook

    def __init__(self) -> None:
        self._written: Dict[str, int] = {}
        self._config_written = False
        self._checkpoints: Any = None  # the run's CheckpointHook
        self._configs: Dict[str, str] = {}
        self._loaded_configs: Dict[str, str] = {}

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Remembers with which student config the run began."""
        meta = checkpoint.get('meta') or {}
        self._loaded_configs = meta.get(EXPORTED_CONFIGS) or {}

    def before_train(self, runner) -> None:
        """Reads the student's config; writes exports that are missing."""
        hooks = [h for h in runner.hooks if isinstance(h, CheckpointHook)]
        self._configs = exported_configs(runner.cfg)
        if getattr(runner, '_resume', False):
            self._refuse_another_student()
        if not hooks or not self._configs:
            return
        if not isinstance(hooks[0].file_backend, LocalBackend):
            runner.logger.warning(
                'StudentExportHook writes to local folders only, found '
                f'default_hooks.checkpoint.out_dir={hooks[0].out_dir!r}. '
                'Export with tools/export_student.py.'
            )
            return
        self._checkpoints = hooks[0]
        self._files = RunFiles.of(runner)
        self._note_whole_exports()
        self._mirror(runner)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Stores the student's config in the checkpoint."""
        if self._configs:
            checkpoint['meta'][EXPORTED_CONFIGS] = dict(self._configs)

    # Other processes arrive here before the first one has written its file.
    @master_only
    def after_train_iter(self, runner, *args, **kwargs) -> None:
        """Exports new checkpoints if they are written by iteration."""
        hook = self._checkpoints
        if hook is not None and not hook.by_epoch and hook.last_ckpt:
            name = osp.basename(hook.last_ckpt)
            if self._written.get(name) != self._time(name):
                self._mirror(runner)

    def after_train_epoch(self, runner) -> None:
        """Exports the new checkpoints of the epoch."""
        self._mirror(runner)

    def after_val_epoch(self, runner, metrics=None) -> None:
        """Exports a new best checkpoint."""
        if runner.train_loop is not None:
            self._mirror(runner)

    def _refuse_another_student(self) -> None:
        """Raises an error if a resumed run has another student than before."""
        for part, text in self._loaded_configs.items():
            before = parse_literals(text, 'the checkpoint')['model']
            now = parse_literals(self._configs[part], 'the config')['model']
            changed = [
                key
                for key in {**before, **now}
                if before.get(key) != now.get(key)
            ]
            if changed:
                raise ValueError(
                    f'model.{part}: {changed} of its config differ from '
                    'those with which this run began. Restore the config, or '
                    'start a new run with load_from instead of --resume.'
                )

    def _path(self, name: str) -> str:
        return osp.join(self._checkpoints.out_dir, name)

    def _time(self, name: str) -> int:
        return os.stat(self._path(name)).st_mtime_ns

    def _exported(self) -> Set[str]:
        """Names of the checkpoints whose students this run has written."""
        return {
            name[len(PREFIX) :]
            for name in self._files.names
            if name.startswith(PREFIX)
        }

    @master_only
    def _note_whole_exports(self) -> None:
        for source in self._exported():
            if self._is_whole(source):
                self._written[source] = self._time(source)

    def _is_whole(self, source: str) -> bool:
        """Returns whether the export of a checkpoint exists and is current."""
        student = self._path(PREFIX + source)
        return (
            osp.isfile(self._path(source))
            and osp.isfile(student)
            and zipfile.is_zipfile(student)
            and self._time(PREFIX + source) >= self._time(source)
        )

    def _sources(self) -> Set[str]:
        """Names of the checkpoints that this run has written and kept."""
        hook = self._checkpoints
        paths = [hook.last_ckpt, getattr(hook, 'best_ckpt_path', None)]
        paths += getattr(hook, 'best_ckpt_path_dict', {}).values()
        names = {osp.basename(path) for path in paths if path}
        ids = getattr(hook, 'keep_ckpt_ids', [])
        names.update(map(hook.filename_tmpl.format, ids))
        names |= self._exported()
        return {name for name in names if osp.isfile(self._path(name))}

    @master_only
    def _mirror(self, runner) -> None:
        if self._checkpoints is None:
            return
        sources = self._sources()
        for gone in self._exported() - sources:
            student = self._path(PREFIX + gone)
            if osp.isfile(student):
                os.remove(student)
            self._files.drop(PREFIX + gone)
            self._written.pop(gone, None)
        for source in sorted(sources):
            written = self._time(source)
            if self._written.get(source) != written:
                self._written[source] = written
                try:
                    self._export(source)
                except CheckpointError as error:
                    runner.logger.error(f'No student was exported: {error}')

    def _export(self, source: str) -> None:
        checkpoint = CheckpointLoader.load_checkpoint(
            self._path(source), map_location='cpu'
        )
        if not is_distiller_checkpoint(checkpoint):
            return
        checkpoint.setdefault('meta', {})[EXPORTED_CONFIGS] = self._configs
        self._files.add(PREFIX + source)
        save_checkpoint(
            student_checkpoint(checkpoint),
            self._path(PREFIX + source),
            backend_args=dict(backend='atomic_local'),
        )
        if not self._config_written:
            self._config_written = True
            config = self._path(CONFIG)
            write_text(config, config_file(self._configs['student']))
            print_log(
                f'{self._path(PREFIX + source)} is a stock checkpoint. It '
                'needs `pip install mmaction2 mmengine mmcv-lite` and not '
                f'this package: mim test mmaction {config} --checkpoint FILE',
                'current',
            )
