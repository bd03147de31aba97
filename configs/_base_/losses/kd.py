# Hinton et al. 2015.
losses = dict(kd=dict(type='KDLoss', loss_weight=1.0, tau=4.0))
