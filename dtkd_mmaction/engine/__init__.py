"""Hooks of the runner, and the export of the student."""

from .student_export import student_checkpoint, student_config
from .student_export_hook import StudentExportHook

__all__ = ['StudentExportHook', 'student_checkpoint', 'student_config']
