# A small MViTv2, from scratch.
_base_ = '_base_/teacher.py'

model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='MViT',
        arch=dict(
            embed_dims=32, num_layers=6, num_heads=1, downscale_indices=[1, 3]
        ),
        spatial_size=48,
        temporal_size=8,
        out_scales=[2],
        drop_path_rate=0.1,
    ),
    cls_head=dict(
        type='MViTHead',
        in_channels=128,
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
work_dir = 'work_dirs/ucf6/vit_teacher'
