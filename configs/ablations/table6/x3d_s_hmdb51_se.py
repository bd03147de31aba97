# Table 6, row "SENet only".
_base_ = '../../dtkd/x3d_s_hmdb51.py'

model = dict(branch=dict(use_nonlocal=False))
