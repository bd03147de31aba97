# One teacher, the ViT; the losses are named by the config that inherits this.
_base_ = '../ucf6_dtkd.py'

model = dict(
    _delete_=True,
    type='SingleTeacherDistiller',
    student={{_base_.model.student}},
    teacher={{_base_.model.vit_teacher}},
)
