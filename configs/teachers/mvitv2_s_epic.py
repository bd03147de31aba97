# Stage one of Table 2: MViTv2-S on EPIC-KITCHENS-100.
_base_ = [
    'mmaction::_base_/models/mvit_small.py',
    '../_base_/datasets/epic_kitchens.py',
    '../_base_/schedules/adamw_50e.py',
    '../_base_/default_runtime.py',
]
work_dir = 'work_dirs/teachers/{{ fileBasenameNoExtension }}'

model = dict(
    cls_head=dict(
        _delete_=True,
        type='VerbNounHead',
        num_classes=(97, 300),
        head=dict(type='MViTHead', in_channels=768, average_clips='prob'),
    ),
    # The statistics that the Kinetics-400 weights were trained with.
    data_preprocessor=dict(
        mean=[114.75, 114.75, 114.75], std=[57.375, 57.375, 57.375]
    ),
)
load_from = (
    'https://download.openmmlab.com/mmaction/v1.0/recognition/mvit/'
    'mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb/'
    'mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb_20230201-23284ff3.pth'
)
