# Huang et al. 2022.
losses = dict(
    dist=dict(type='DISTLoss', loss_weight=2.0, tau=1.0, gather=True),
)
