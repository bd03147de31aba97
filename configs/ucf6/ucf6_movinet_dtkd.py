# DT-KD with its defaults, into MoViNet-A0.
_base_ = './ucf6_dtkd.py'

model = dict(student=dict(cfg='{{ fileDirname }}/ucf6_movinet_alone.py'))
