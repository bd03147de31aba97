# Table 1, row X3D-S, column MGD.
_base_ = [
    '../../dtkd/x3d_s_hmdb51.py',
    '../../_base_/losses/mgd.py',
]

model = dict(
    _delete_=True,
    type='SingleTeacherDistiller',
    num_classes={{_base_.model.num_classes}},
    student={{_base_.model.student}},
    teacher={{_base_.model.vit_teacher}},
    losses={{_base_.losses}},
)
