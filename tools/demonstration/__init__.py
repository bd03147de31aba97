"""Parts of ``tools/demo.py``: trainings, predictions, summary and picture."""

from .picture import draw_picture
from .predictions import Predictions, predict_clips
from .summary import SeedResult, as_json, overview, print_tables, verdict
from .trainings import RUNS, Result, Trainings

__all__ = [
    'RUNS',
    'Predictions',
    'Result',
    'SeedResult',
    'Trainings',
    'as_json',
    'draw_picture',
    'overview',
    'predict_clips',
    'print_tables',
    'verdict',
]
