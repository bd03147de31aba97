# Table 6, row "Non-Local Block only". Both: dtkd/x3d_s_hmdb51.py.
_base_ = '../../dtkd/x3d_s_hmdb51.py'

model = dict(branch=dict(use_se=False))
