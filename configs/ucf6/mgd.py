# MGD from the ViT teacher.
_base_ = ['./dtkd.py', '../_base_/losses/mgd.py']

model = dict(
    _delete_=True,
    type='SingleTeacherDistiller',
    student={{_base_.model.student}},
    teacher={{_base_.model.vit_teacher}},
    losses={{_base_.losses}},
)
