# Table 5, row "Stu-Tea Discrepancy": no SDB.
_base_ = '../../dtkd/slowfast_r50_hmdb51.py'

model = dict(loss_sr=dict(score='discrepancy'), loss_sd=None)
