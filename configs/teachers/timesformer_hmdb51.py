# Table 8: TimeSformer (divided space-time attention) of 8 frames, fine-tuned
# from Kinetics-400.
_base_ = [
    '../_base_/datasets/hmdb51_8frames.py',
    '../_base_/schedules/adamw_50e.py',
    '../_base_/default_runtime.py',
]
work_dir = 'work_dirs/teachers/{{ fileBasenameNoExtension }}'

# The release keeps this model inside a config that also sets its data.
model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='TimeSformer',
        num_frames=8,
        img_size=224,
        patch_size=16,
        embed_dims=768,
        in_channels=3,
        dropout_ratio=0.0,
        attention_type='divided_space_time',
        norm_cfg=dict(type='LN', eps=1e-6),
    ),
    cls_head=dict(
        type='TimeSformerHead',
        num_classes=51,
        in_channels=768,
        average_clips='prob',
    ),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        format_shape='NCTHW',
    ),
)
load_from = (
    'https://download.openmmlab.com/mmaction/v1.0/recognition/timesformer/'
    'timesformer_divST_8xb8-8x32x1-15e_kinetics400-rgb/'
    'timesformer_divST_8xb8-8x32x1-15e_kinetics400-rgb_20220815-a4d0d01f.pth'
)
