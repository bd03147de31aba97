# Table 6, row "Baseline (w/o SDB)".
_base_ = '../../dtkd/x3d_s_hmdb51.py'

model = dict(loss_sd=None)
