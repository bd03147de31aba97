# MoViNet-A2 on HMDB51 from MViTv2-S: CC.
_base_ = [
    '../../dtkd/movinet_a2_hmdb51.py',
    '../../_base_/losses/cc.py',
]

model = dict(
    _delete_=True,
    type='SingleTeacherDistiller',
    num_classes={{_base_.model.num_classes}},
    student={{_base_.model.student}},
    teacher={{_base_.model.vit_teacher}},
    losses={{_base_.losses}},
)
