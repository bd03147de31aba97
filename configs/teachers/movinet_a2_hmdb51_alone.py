# Stage one: the CNN teacher MoViNet-A2, fine-tuned. Also the paper's
# "MoViNet-A2 without distillation".
# Its weights: tools/convert/movinet_from_pytorch_port.py.
_base_ = [
    '../_base_/models/movinet_a2.py',
    '../_base_/datasets/hmdb51.py',
    '../_base_/schedules/sgd_50e.py',
    '../_base_/default_runtime.py',
]
# Where distillation configs look for it.
work_dir = 'work_dirs/teachers/movinet_a2_hmdb51'

model = dict(cls_head=dict(num_classes=51))
load_from = 'checkpoints/movinet_a2_base.pth'
