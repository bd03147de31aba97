# The branch with the non-local block alone.
_base_ = './ucf6_dtkd.py'

model = dict(branch=dict(use_se=False))
