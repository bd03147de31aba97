# X3D-S on HMDB51 from MViTv2-S: FSP.
_base_ = [
    '../../dtkd/x3d_s_hmdb51.py',
    '../../_base_/losses/fsp.py',
]

model = dict(
    _delete_=True,
    type='SingleTeacherDistiller',
    num_classes={{_base_.model.num_classes}},
    student={{_base_.model.student}},
    teacher={{_base_.model.vit_teacher}},
    losses={{_base_.losses}},
)
