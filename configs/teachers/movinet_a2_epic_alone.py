# Stage one of Table 2: MoViNet-A2 on EPIC-KITCHENS-100, also
# "without distillation".
# Its weights: tools/convert/movinet_from_pytorch_port.py.
_base_ = [
    '../_base_/models/movinet_a2.py',
    '../_base_/datasets/epic_kitchens.py',
    '../_base_/schedules/sgd_50e.py',
    '../_base_/default_runtime.py',
]
# Where distillation configs look for it.
work_dir = 'work_dirs/teachers/movinet_a2_epic'

model = dict(
    cls_head=dict(
        _delete_=True,
        type='VerbNounHead',
        num_classes=(97, 300),
        head=dict(type='MoViNetHead', in_channels=640, average_clips='prob'),
    ),
)
load_from = 'checkpoints/movinet_a2_base.pth'
