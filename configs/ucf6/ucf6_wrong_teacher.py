# Two good teachers and one that is sure and wrong: the pretrained CNN with
# exchanged class names.
#     python tools/analysis/wrong_teacher.py \
#         checkpoints/ucf6_efficientnet_lite0_133.pth \
#         --out checkpoints/ucf6_efficientnet_lite0_133_wrong.pth
_base_ = './ucf6_unlabelled.py'

model = dict(
    _delete_=True,
    type='MultiTeacherDistiller',
    student={{_base_.model.student}},
    teachers=dict(
        vit={{_base_.model.vit_teacher}},
        cnn={{_base_.model.cnn_teacher}},
        wrong=dict(
            cfg='{{ fileDirname }}/efficientnet_lite0.py',
            checkpoint='checkpoints/ucf6_efficientnet_lite0_133_wrong.pth',
            view=dict(frames=4, size=112),
        ),
    ),
)
