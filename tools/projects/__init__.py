"""Makes a project from a folder of videos, for ``tools/new_project.py``."""

from .checking import check
from .clips import find_clips
from .configs import config_files, tables_text
from .disk import fit_disk
from .plan import (
    VIEWS,
    Plan,
    batch_size,
    default_size,
    default_student,
    epochs_for,
    frame_interval,
    may_flip,
)
from .readme import readme_text
from .speed import estimate, measure, readable
from .splits import divide, probe_pattern
from .zoo import CNN, STUDENT, VIT, Model, find_entry, read_model, short_names

__all__ = [
    'CNN',
    'STUDENT',
    'VIEWS',
    'VIT',
    'Model',
    'Plan',
    'batch_size',
    'check',
    'config_files',
    'default_size',
    'default_student',
    'divide',
    'epochs_for',
    'estimate',
    'find_clips',
    'find_entry',
    'fit_disk',
    'frame_interval',
    'may_flip',
    'measure',
    'probe_pattern',
    'read_model',
    'readable',
    'readme_text',
    'short_names',
    'tables_text',
]
