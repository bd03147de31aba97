"""Decides what is kept on the disk to save time."""

import shutil
from typing import List

from check_config import without_checkpoints
from mmaction.registry import MODELS
from mmengine.config import Config

from dtkd_mmaction.distillers import BaseDistiller
from dtkd_mmaction.teachers.record_layout import RecordLayout

from .plan import Plan

# Share of the free disk that each may take.
CACHE_SHARE, VIEWS_SHARE = 0.25, 0.1


def fit_disk(plan: Plan, config: Config, out: str, notes: List[str]) -> Plan:
    """Returns the plan with what the disk has space for; adds notes.

    Args:
        plan (Plan): The settings.
        config (Config): The distillation config.
        out (str): Folder of the project.
        notes (list[str]): What was decided.
    """
    free = shutil.disk_usage(out).free
    views = plan.counts['train'] * plan.views
    cache = views * cache_bytes(config)
    clips = views * view_bytes(plan)
    plan = plan._replace(
        cached=cache < CACHE_SHARE * free, kept=clips < VIEWS_SHARE * free
    )
    if not plan.cached:
        notes.append(
            f"A cache of the teachers' outputs would take {gigabytes(cache)} "
            f'of {gigabytes(free)}, so the teachers run in every step.'
        )
    return plan


def cache_bytes(config: Config) -> int:
    """Returns the bytes that a cache takes for one view of one clip."""
    distiller = MODELS.build(without_checkpoints(config.model))
    assert isinstance(distiller, BaseDistiller)
    layout = RecordLayout(distiller, 'student_grid', 'float16', [])
    return layout.bytes_per_view


def view_bytes(plan: Plan) -> int:
    """Returns the bytes of the shared clip and of the student's own."""
    shared = plan.clip_frames * plan.size**2
    return 3 * (shared + plan.student.frames * plan.student.size**2)


def gigabytes(count: float) -> str:
    """Returns a number of bytes for people."""
    return f'{count / 1e9:.1f} GB'
