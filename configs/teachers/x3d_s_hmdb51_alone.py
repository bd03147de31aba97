# Tables 1, 7 and 8: X3D-S without distillation, fine-tuned from Kinetics-400.
_base_ = [
    'mmaction::_base_/models/x3d.py',
    '../_base_/datasets/hmdb51_160.py',
    '../_base_/schedules/sgd_50e.py',
    '../_base_/default_runtime.py',
]
# Where distillation configs look for it.
work_dir = 'work_dirs/teachers/x3d_s_hmdb51'

model = dict(cls_head=dict(num_classes=51))
load_from = (
    'https://download.openmmlab.com/mmaction/v1.0/recognition/x3d/facebook/'
    'x3d_s_13x6x1_facebook-kinetics400-rgb_20201027-623825a0.pth'
)
