# The equations as printed.
_base_ = './dtkd.py'

model = dict(preset='paper_literal')
