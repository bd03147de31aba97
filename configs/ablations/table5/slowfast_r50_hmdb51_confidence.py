# Table 5, row "Teacher Confidence": no SDB.
_base_ = '../../dtkd/slowfast_r50_hmdb51.py'

model = dict(loss_sr=dict(score='confidence'), loss_sd=None)
