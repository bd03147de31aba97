"""Training loop and hooks."""

from ..deployment.student_export import student_checkpoint, student_config
from .atomic_checkpoint_hook import AtomicCheckpointHook
from .fast_student_hook import FastStudentHook
from .label_share_hook import LabelShareHook
from .optimizer_constructors import student_first
from .resumable_train_loop import ResumableTrainLoop
from .student_export_hook import StudentExportHook
from .teacher_cache_hook import TeacherCacheHook
from .teacher_report_hook import TeacherReportHook

__all__ = [
    'AtomicCheckpointHook',
    'FastStudentHook',
    'LabelShareHook',
    'ResumableTrainLoop',
    'StudentExportHook',
    'TeacherCacheHook',
    'TeacherReportHook',
    'student_checkpoint',
    'student_config',
    'student_first',
]
