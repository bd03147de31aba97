# Weighted logits alone.
_base_ = './dtkd.py'

model = dict(loss_sd=None, loss_rkd=None)
