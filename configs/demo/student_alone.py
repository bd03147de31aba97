# The student: the CNN teacher's layers at half their width.
_base_ = ['./_base_/demo_student.py', './_base_/demo_cnn.py']

model = dict(backbone=dict(base_channels=8), cls_head=dict(in_channels=32))
