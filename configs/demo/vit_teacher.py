# A small MViTv2 of two layers: every token sees the whole clip.
_base_ = './_base_/demo_teacher.py'

model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='MViT',
        arch=dict(
            embed_dims=32, num_layers=2, num_heads=1, downscale_indices=[1]
        ),
        spatial_size=32,
        temporal_size=8,
        out_scales=[1],
        drop_path_rate=0.0,
        adaptive_kv_stride=(1, 2, 2),
        patch_cfg=dict(
            kernel_size=(5, 7, 7), stride=(2, 4, 4), padding=(2, 3, 3)
        ),
    ),
    cls_head=dict(
        type='MViTHead',
        in_channels=64,
        num_classes=8,
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
optim_wrapper = dict(optimizer=dict(lr=1e-3))
