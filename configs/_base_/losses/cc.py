# Peng et al. 2019: beside KD, as in the paper.
losses = dict(
    kd=dict(type='KDLoss', loss_weight=1.0, tau=4.0),
    cc=dict(type='CCLoss', loss_weight=1.0, gather=True),
)
