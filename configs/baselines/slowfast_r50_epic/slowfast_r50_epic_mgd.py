# Table 2, rows SlowFast-R50, column MGD.
_base_ = [
    '../../dtkd/slowfast_r50_epic.py',
    '../../_base_/losses/mgd.py',
]

model = dict(
    _delete_=True,
    type='SingleTeacherDistiller',
    student={{_base_.model.student}},
    teacher={{_base_.model.vit_teacher}},
    losses={{_base_.losses}},
)
