# Table 5, row "Average": no SDB.
_base_ = '../../dtkd/slowfast_r50_hmdb51.py'

model = dict(loss_sr=dict(score='uniform'), loss_sd=None)
