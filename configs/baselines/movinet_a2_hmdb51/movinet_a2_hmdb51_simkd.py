# MoViNet-A2 on HMDB51 from MViTv2-S: SimKD. The export keeps a projector and
# the teacher's classifier.
_base_ = '../../dtkd/movinet_a2_hmdb51.py'

model = dict(
    _delete_=True,
    type='SimKDDistiller',
    num_classes={{_base_.model.num_classes}},
    student={{_base_.model.student}},
    teacher={{_base_.model.vit_teacher}},
)
