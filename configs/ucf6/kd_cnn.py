# KD from the CNN teacher.
_base_ = ['./dtkd.py', '../_base_/losses/kd.py']

model = dict(
    _delete_=True,
    type='SingleTeacherDistiller',
    student={{_base_.model.student}},
    teacher={{_base_.model.cnn_teacher}},
    losses={{_base_.losses}},
)
