# DT-KD from two pretrained image backbones, which know more than these clips.
#     python tools/data/pretrained_teachers.py --out checkpoints
#     python tools/probe_teacher.py configs/ucf6/dinov2_s.py \
#         --group-by '_g(\d+)_' --out checkpoints/ucf6_dinov2_s.pth
#     python tools/probe_teacher.py configs/ucf6/efficientnet_lite0.py \
#         --group-by '_g(\d+)_' --out checkpoints/ucf6_efficientnet_lite0.pth
_base_ = '_base_/student_112.py'

here = '{{ fileDirname }}'

model = dict(
    type='DualTeacherDistiller',
    student=dict(
        cfg=f'{here}/ucf6_student_alone.py', view=dict(frames=8, size=48)
    ),
    vit_teacher=dict(
        cfg=f'{here}/dinov2_s.py',
        checkpoint='checkpoints/ucf6_dinov2_s.pth',
        view=dict(frames=4, size=112),
    ),
    cnn_teacher=dict(
        cfg=f'{here}/efficientnet_lite0.py',
        checkpoint='checkpoints/ucf6_efficientnet_lite0.pth',
        view=dict(frames=4, size=112),
    ),
)
