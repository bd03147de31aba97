_base_ = './default_runtime.py'

# Beside every checkpoint that is kept: the stock student. Before the first
# step: whether a teacher cache fits the run, and what the teachers know about
# the validation clips. During training: whether the labels are still heard.
custom_hooks = [
    dict(type='FastStudentHook'),
    dict(type='StudentExportHook'),
    dict(type='TeacherCacheHook'),
    dict(type='TeacherReportHook'),
    dict(type='LabelShareHook'),
]
