# Table 1, row SlowFast-R50, column PixelKD.
_base_ = [
    '../../dtkd/slowfast_r50_hmdb51.py',
    '../../_base_/losses/pixelkd.py',
]

model = dict(
    _delete_=True,
    type='SingleTeacherDistiller',
    num_classes={{_base_.model.num_classes}},
    student={{_base_.model.student}},
    teacher={{_base_.model.vit_teacher}},
    losses={{_base_.losses}},
)
