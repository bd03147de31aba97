# Stage one of Table 4: MoViNet-A2, the CNN teacher and the student without
# distillation.
# Its weights: tools/convert/movinet_from_pytorch_port.py.
_base_ = [
    '../_base_/models/movinet_a2.py',
    '../_base_/datasets/sthv2.py',
    '../_base_/schedules/sgd_50e.py',
    '../_base_/default_runtime.py',
]
# Where distillation configs look for it.
work_dir = 'work_dirs/teachers/movinet_a2_ssv2'

model = dict(cls_head=dict(num_classes=174))
load_from = 'checkpoints/movinet_a2_base.pth'
