# TAKD, first step: the assistant R(2+1)D-34 from MViTv2-S by KD on HMDB51.
_base_ = [
    '../dtkd/slowfast_r50_hmdb51.py',
    '../_base_/losses/kd.py',
]

model = dict(
    _delete_=True,
    type='SingleTeacherDistiller',
    num_classes={{_base_.model.num_classes}},
    student=dict(
        cfg='mmaction::recognition/r2plus1d/'
        'r2plus1d_r34_8xb8-32x2x1-180e_kinetics400-rgb.py',
        checkpoint='https://download.openmmlab.com/mmaction/v1.0/recognition/'
        'r2plus1d/r2plus1d_r34_8xb8-32x2x1-180e_kinetics400-rgb/'
        'r2plus1d_r34_8xb8-32x2x1-180e_kinetics400-rgb_20220812-'
        '4270588c.pth',
        view=dict(frames=16, size=224),
    ),
    teacher={{_base_.model.vit_teacher}},
    losses={{_base_.losses}},
)

# Where the students look for it.
work_dir = 'work_dirs/takd_assistant_hmdb51'
