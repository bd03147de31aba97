# Stage one of Table 4: SlowFast-R50, the CNN teacher and the student without
# distillation.
_base_ = [
    'mmaction::_base_/models/slowfast_r50.py',
    '../_base_/datasets/sthv2.py',
    '../_base_/schedules/sgd_50e.py',
    '../_base_/default_runtime.py',
]
# Where distillation configs look for it.
work_dir = 'work_dirs/teachers/slowfast_r50_ssv2'

model = dict(cls_head=dict(num_classes=174))
load_from = (
    'https://download.openmmlab.com/mmaction/v1.0/recognition/slowfast/'
    'slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb/'
    'slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb_20220901-701b0f6f.pth'
)
