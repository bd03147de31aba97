# Table 5, row "DATW": no SDB.
_base_ = '../../dtkd/slowfast_r50_hmdb51.py'

model = dict(loss_sr=dict(score='product'), loss_sd=None)
