# Weighted logits alone.
_base_ = './ucf6_dtkd.py'

model = dict(loss_sd=None, loss_rkd=None)
