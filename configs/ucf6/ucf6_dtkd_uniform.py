# Both teachers count alike; no branch, as in Table 5.
_base_ = './ucf6_dtkd.py'

model = dict(loss_sr=dict(score='uniform'), loss_sd=None)
