# The two pretrained teachers of ucf6_unlabelled.py and a weaker third one: the
# same CNN on frames of 48 px, as the student sees them.
#     python tools/probe_teacher.py configs/ucf6/ucf6_three_teachers.py \
#         --teacher weak --weights checkpoints/efficientnet_lite0.pth \
#         --views 2 --group-by '_g(\d+)_' \
#         --out checkpoints/ucf6_efficientnet_lite0_48px.pth
_base_ = './ucf6_unlabelled.py'

model = dict(
    _delete_=True,
    type='MultiTeacherDistiller',
    student={{_base_.model.student}},
    teachers=dict(
        vit={{_base_.model.vit_teacher}},
        cnn={{_base_.model.cnn_teacher}},
        weak=dict(
            cfg='{{ fileDirname }}/efficientnet_lite0.py',
            checkpoint='checkpoints/ucf6_efficientnet_lite0_48px.pth',
            view=dict(frames=4, size=48),
        ),
    ),
)
