# The branch with squeeze-excitation alone.
_base_ = './dtkd.py'

model = dict(branch=dict(use_nonlocal=False))
