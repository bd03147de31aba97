# Stage one of Table 7: the ViT teacher Swin-B, fine-tuned from Kinetics-400.
_base_ = [
    'mmaction::_base_/models/swin_tiny.py',
    '../_base_/datasets/hmdb51.py',
    '../_base_/schedules/adamw_50e.py',
    '../_base_/default_runtime.py',
]
work_dir = 'work_dirs/teachers/{{ fileBasenameNoExtension }}'

model = dict(
    backbone=dict(arch='base', drop_path_rate=0.3, pretrained=None),
    cls_head=dict(in_channels=1024, num_classes=51),
)
load_from = (
    'https://download.openmmlab.com/mmaction/v1.0/recognition/swin/'
    'swin-base-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb/'
    'swin-base-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb_'
    '20220930-182ec6cc.pth'
)
