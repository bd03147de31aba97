# Weighted by the teachers' confidence alone (Eq. 4); no branch.
_base_ = './ucf6_dtkd.py'

model = dict(loss_sr=dict(score='confidence'), loss_sd=None)
