# The second student, MoViNet-A0, without distillation.
_base_ = ['_base_/student.py', '../_base_/models/movinet_a0.py']

model = dict(cls_head=dict(num_classes=6))
