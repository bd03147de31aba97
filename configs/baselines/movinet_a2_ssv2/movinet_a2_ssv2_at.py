# Table 4, row MoViNet-A2, column ATKD.
_base_ = [
    '../../dtkd/movinet_a2_ssv2.py',
    '../../_base_/losses/at.py',
]

model = dict(
    _delete_=True,
    type='SingleTeacherDistiller',
    num_classes={{_base_.model.num_classes}},
    student={{_base_.model.student}},
    teacher={{_base_.model.vit_teacher}},
    losses={{_base_.losses}},
)
