# Table 2, rows MoViNet-A2, column ATKD.
_base_ = [
    '../../dtkd/movinet_a2_epic.py',
    '../../_base_/losses/at.py',
]

model = dict(
    _delete_=True,
    type='SingleTeacherDistiller',
    student={{_base_.model.student}},
    teacher={{_base_.model.vit_teacher}},
    losses={{_base_.losses}},
)
