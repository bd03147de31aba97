# The branch with the non-local block alone.
_base_ = './dtkd.py'

model = dict(branch=dict(use_se=False))
