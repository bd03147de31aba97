# The branch with squeeze-excitation alone.
_base_ = './ucf6_dtkd.py'

model = dict(branch=dict(use_nonlocal=False))
