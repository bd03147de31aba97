# Stage one of Table 7: the CNN teacher R(2+1)D-34, fine-tuned from
# Kinetics-400.
_base_ = [
    'mmaction::_base_/models/r2plus1d_r34.py',
    '../_base_/datasets/hmdb51.py',
    '../_base_/schedules/sgd_50e.py',
    '../_base_/default_runtime.py',
]
work_dir = 'work_dirs/teachers/{{ fileBasenameNoExtension }}'

model = dict(cls_head=dict(num_classes=51))
load_from = (
    'https://download.openmmlab.com/mmaction/v1.0/recognition/r2plus1d/'
    'r2plus1d_r34_8xb8-32x2x1-180e_kinetics400-rgb/'
    'r2plus1d_r34_8xb8-32x2x1-180e_kinetics400-rgb_20220812-4270588c.pth'
)
