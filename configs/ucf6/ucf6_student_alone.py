# The student, a small X3D, without distillation.
_base_ = '_base_/student.py'

model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='X3D',
        gamma_w=1 / 3,
        gamma_b=2.25,
        gamma_d=0.2,
        spatial_strides=(2, 2, 2, 1),
    ),
    cls_head=dict(
        type='X3DHead',
        in_channels=144,
        num_classes=6,
        dropout_ratio=0.2,
        average_clips='prob',
    ),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[114.75, 114.75, 114.75],
        std=[57.375, 57.375, 57.375],
        format_shape='NCTHW',
    ),
)
