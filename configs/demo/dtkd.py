# The same student at the same budget, with both teachers and the defaults.
_base_ = './student_alone.py'

here = '{{ fileDirname }}'
teachers = 'work_dirs/demo/seed_0'

model = dict(
    _delete_=True,
    type='DualTeacherDistiller',
    student=dict(cfg=f'{here}/student_alone.py'),
    vit_teacher=dict(
        cfg=f'{here}/vit_teacher.py',
        checkpoint=f'{teachers}/vit_teacher/epoch_*.pth',
    ),
    cnn_teacher=dict(
        cfg=f'{here}/cnn_teacher.py',
        checkpoint=f'{teachers}/cnn_teacher/epoch_*.pth',
    ),
)
custom_hooks = [
    dict(type='FastStudentHook'),
    dict(type='StudentExportHook'),
    dict(type='TeacherCacheHook'),
    dict(type='TeacherReportHook'),
    dict(type='LabelShareHook'),
]
