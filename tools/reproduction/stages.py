"""Runs that are no trainings: a teacher that is probed, a teacher cache.

A config with ``probe = dict(views=..., group_by=...)`` is run by
``tools/probe_teacher.py``. A row with ``cache: 10`` has a teacher cache of ten
views, which ``tools/cache_teachers.py`` makes.
"""

import os.path as osp
import sys
from typing import Any, Dict, List

import torch

TRAIN, PROBE, CACHE = 'training', 'probe', 'teacher cache'
# The checkpoint of a probe, and what says that a cache is complete.
PROBE_FILE = 'probe.pth'
CACHE_FILE = 'cache/manifest.json'


def cache_folder(run: Any) -> str:
    """Returns the folder of the cache that a run makes."""
    return osp.join(run.work_dir, osp.dirname(CACHE_FILE))


def stage_command(run: Any, tools: str, config: str) -> List[str]:
    """Returns the command of a run that is no training.

    Args:
        run (Run): A probe or a teacher cache.
        tools (str): Folder of the tools.
        config (str): Its resolved config.
    """
    if run.kind == CACHE:
        return [
            sys.executable,
            osp.join(tools, 'cache_teachers.py'),
            config,
            *('--out', cache_folder(run)),
            *('--views', str(run.config.cache_views)),
            *('--maps', run.config.get('cache_maps', 'student_grid')),
            *('--workers', '0'),
        ]
    options = [
        f'--{name.replace("_", "-")}={value}'
        for name, value in run.config.probe.items()
        if value is not None
    ]
    return [
        sys.executable,
        osp.join(tools, 'probe_teacher.py'),
        config,
        *('--out', osp.join(run.work_dir, PROBE_FILE)),
        *options,
    ]


def stage_result(run: Any) -> Dict[str, Any]:
    """Returns what the record of a finished probe or cache holds.

    Raises:
        ValueError: If its file is missing.
    """
    name = CACHE_FILE if run.kind == CACHE else PROBE_FILE
    path = osp.join(run.work_dir, name)
    if not osp.isfile(path):
        raise ValueError(f'{path} was not written.')
    metrics, training = {}, {}
    if run.kind == PROBE:
        meta = torch.load(path, map_location='cpu', weights_only=True)['meta']
        training = dict(meta['probe'])
        metrics = {'acc/top1': training['validation_accuracy']}
    return dict(metrics=metrics, training=training, epoch=0, checkpoint=name)
