# The two pretrained teachers of ucf6_pretrained.py and a weaker third one, the
# ViT that was trained on these clips alone.
_base_ = './ucf6_pretrained.py'

model = dict(
    _delete_=True,
    type='MultiTeacherDistiller',
    student={{_base_.model.student}},
    teachers=dict(
        vit={{_base_.model.vit_teacher}},
        cnn={{_base_.model.cnn_teacher}},
        weak=dict(
            cfg='{{ fileDirname }}/ucf6_vit_teacher.py',
            checkpoint='work_dirs/ucf6/vit_teacher/epoch_*.pth',
            view=dict(frames=8, size=48),
        ),
    ),
)
