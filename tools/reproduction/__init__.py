"""Plans, trains and records the runs of a table, and prints the table."""

from .costs import Counter, gpu_hours
from .launching import Launcher, train_all
from .plan import Planner, Row, Run, Table, read_tables, runs_in_order
from .records import ConflictError, State, read_result, state_of
from .table import json_table, markdown_table, measured_rows, text_table

__all__ = [
    'ConflictError',
    'Counter',
    'Launcher',
    'Planner',
    'Row',
    'Run',
    'State',
    'Table',
    'gpu_hours',
    'json_table',
    'markdown_table',
    'measured_rows',
    'read_result',
    'read_tables',
    'runs_in_order',
    'state_of',
    'text_table',
    'train_all',
]
