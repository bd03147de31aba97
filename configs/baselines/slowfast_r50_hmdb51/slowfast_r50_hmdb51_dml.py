# SlowFast-R50 on HMDB51: DML, with a second SlowFast-R50 whose head starts
# elsewhere.
_base_ = '../../dtkd/slowfast_r50_hmdb51.py'

model = dict(
    _delete_=True,
    type='MutualLearningDistiller',
    num_classes={{_base_.model.num_classes}},
    student={{_base_.model.student}},
    peer={{_base_.model.student}},
)
