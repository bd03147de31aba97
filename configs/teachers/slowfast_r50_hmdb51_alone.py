# Stage one: the CNN teacher SlowFast-R50, fine-tuned from Kinetics-400. Also
# the paper's "SlowFast-R50 without distillation".
_base_ = [
    'mmaction::_base_/models/slowfast_r50.py',
    '../_base_/datasets/hmdb51.py',
    '../_base_/schedules/sgd_50e.py',
    '../_base_/default_runtime.py',
]
# Where distillation configs look for it.
work_dir = 'work_dirs/teachers/slowfast_r50_hmdb51'

model = dict(cls_head=dict(num_classes=51))
load_from = (
    'https://download.openmmlab.com/mmaction/v1.0/recognition/slowfast/'
    'slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb/'
    'slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb_20220901-701b0f6f.pth'
)
