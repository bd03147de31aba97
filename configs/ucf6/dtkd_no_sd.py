# Without the structure discrepancy branch: DATW and relations.
_base_ = './dtkd.py'

model = dict(loss_sd=None)
