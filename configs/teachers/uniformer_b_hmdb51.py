# Table 8: UniFormer-B (v1), whose parameters and operations are the ones that
# the paper prints for UniFormerV2-B. Fine-tuned from Kinetics-400.
_base_ = [
    '../_base_/datasets/hmdb51.py',
    '../_base_/schedules/adamw_50e.py',
    '../_base_/default_runtime.py',
]
work_dir = 'work_dirs/teachers/{{ fileBasenameNoExtension }}'

# The release keeps this model inside a config that also sets its data.
model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='UniFormer',
        depth=[5, 8, 20, 7],
        embed_dim=[64, 128, 320, 512],
        head_dim=64,
        drop_path_rate=0.3,
    ),
    cls_head=dict(
        type='I3DHead',
        dropout_ratio=0.0,
        num_classes=51,
        in_channels=512,
        average_clips='prob',
    ),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[114.75, 114.75, 114.75],
        std=[57.375, 57.375, 57.375],
        format_shape='NCTHW',
    ),
)
load_from = (
    'https://download.openmmlab.com/mmaction/v1.0/recognition/uniformerv1/'
    'uniformer-base_imagenet1k-pre_16x4x1_kinetics400-rgb_20221219-'
    '157c2e66.pth'
)
