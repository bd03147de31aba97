# DT-KD with its defaults.
_base_ = '_base_/student.py'

here = '{{ fileDirname }}'
teachers = 'work_dirs/ucf6'

model = dict(
    type='DualTeacherDistiller',
    student=dict(cfg=f'{here}/ucf6_student_alone.py'),
    vit_teacher=dict(
        cfg=f'{here}/ucf6_vit_teacher.py',
        checkpoint=f'{teachers}/vit_teacher/epoch_*.pth',
    ),
    cnn_teacher=dict(
        cfg=f'{here}/ucf6_cnn_teacher.py',
        checkpoint=f'{teachers}/cnn_teacher/epoch_*.pth',
    ),
)
