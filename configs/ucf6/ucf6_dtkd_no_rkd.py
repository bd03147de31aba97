# Without relations.
_base_ = './ucf6_dtkd.py'

model = dict(loss_rkd=None)
