# Without relations.
_base_ = './dtkd.py'

model = dict(loss_rkd=None)
