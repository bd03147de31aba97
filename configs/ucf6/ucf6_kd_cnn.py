# KD from the CNN teacher.
_base_ = './ucf6_kd.py'

model = dict(
    teacher=dict(
        cfg='{{ fileDirname }}/ucf6_cnn_teacher.py',
        checkpoint='work_dirs/ucf6/cnn_teacher/epoch_*.pth',
    )
)
