# Without the structure discrepancy branch: DATW and relations.
_base_ = './ucf6_dtkd.py'

model = dict(loss_sd=None)
