# DT-KD with its defaults, into MoViNet-A0.
_base_ = './dtkd.py'

model = dict(student=dict(cfg='{{ fileDirname }}/movinet_alone.py'))
