# Weighted by the student's distance alone (Eq. 5); no branch.
_base_ = './ucf6_dtkd.py'

model = dict(loss_sr=dict(score='discrepancy'), loss_sd=None)
