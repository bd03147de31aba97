# Yang et al. 2022.
losses = dict(mgd=dict(type='MGDLoss', loss_weight=1.0, mask_ratio=0.15))
