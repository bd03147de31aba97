# Yim et al. 2017, joint with the label loss.
losses = dict(fsp=dict(type='FSPLoss', loss_weight=1.0))
