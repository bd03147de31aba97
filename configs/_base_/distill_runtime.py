_base_ = './default_runtime.py'

# Beside every checkpoint that is kept: the stock student. Before the first
# step: whether a teacher cache fits the run.
custom_hooks = [
    dict(type='FastStudentHook'),
    dict(type='StudentExportHook'),
    dict(type='TeacherCacheHook'),
]
