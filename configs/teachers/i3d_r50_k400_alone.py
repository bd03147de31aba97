# Table 3: I3D-R50 without distillation, from ImageNet.
_base_ = [
    'mmaction::_base_/models/i3d_r50.py',
    '../_base_/datasets/kinetics400.py',
    '../_base_/schedules/sgd_50e.py',
    '../_base_/default_runtime.py',
]
# Where distillation configs look for it.
work_dir = 'work_dirs/teachers/i3d_r50_k400'

model = dict(cls_head=dict(num_classes=400))
