# X3D-S on HMDB51: DML, with a second X3D-S whose head starts elsewhere.
_base_ = '../../dtkd/x3d_s_hmdb51.py'

model = dict(
    _delete_=True,
    type='MutualLearningDistiller',
    num_classes={{_base_.model.num_classes}},
    student={{_base_.model.student}},
    peer={{_base_.model.student}},
)
