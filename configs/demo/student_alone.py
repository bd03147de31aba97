# The student: an X3D with a third of X3D-S's width and half of its depth.
_base_ = ['_base_/demo_clips.py', '_base_/adamw_16e.py']

model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='X3D',
        gamma_w=1 / 3,
        gamma_b=2.25,
        gamma_d=1.0,
        spatial_strides=(2, 2, 2, 1),  # leaves 2 x 2 of 32 x 32 pixels
    ),
    cls_head=dict(
        type='X3DHead',
        in_channels=144,
        num_classes=8,
        dropout_ratio=0.2,
        average_clips='prob',
    ),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[114.75, 114.75, 114.75],
        std=[57.38, 57.38, 57.38],
        format_shape='NCTHW',
    ),
)
