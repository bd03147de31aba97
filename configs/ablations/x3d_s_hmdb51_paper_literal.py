# The equations exactly as printed (docs/equations.md): to see them fail.
_base_ = '../dtkd/x3d_s_hmdb51.py'

model = dict(preset='paper_literal')
