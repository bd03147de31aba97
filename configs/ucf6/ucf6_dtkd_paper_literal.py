# The equations as printed.
_base_ = './ucf6_dtkd.py'

model = dict(preset='paper_literal')
