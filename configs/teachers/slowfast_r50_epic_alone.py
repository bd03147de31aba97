# Stage one of Table 2: SlowFast-R50 on EPIC-KITCHENS-100, also
# "without distillation".
_base_ = [
    'mmaction::_base_/models/slowfast_r50.py',
    '../_base_/datasets/epic_kitchens.py',
    '../_base_/schedules/sgd_50e.py',
    '../_base_/default_runtime.py',
]
# Where distillation configs look for it.
work_dir = 'work_dirs/teachers/slowfast_r50_epic'

model = dict(
    cls_head=dict(
        _delete_=True,
        type='VerbNounHead',
        num_classes=(97, 300),
        head=dict(type='SlowFastHead', in_channels=2304, average_clips='prob'),
    ),
)
load_from = (
    'https://download.openmmlab.com/mmaction/v1.0/recognition/slowfast/'
    'slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb/'
    'slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb_20220901-701b0f6f.pth'
)
