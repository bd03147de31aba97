# MoViNet-A2 on HMDB51: DML, with a second MoViNet-A2 whose head starts
# elsewhere.
_base_ = '../../dtkd/movinet_a2_hmdb51.py'

model = dict(
    _delete_=True,
    type='MutualLearningDistiller',
    num_classes={{_base_.model.num_classes}},
    student={{_base_.model.student}},
    peer={{_base_.model.student}},
)
