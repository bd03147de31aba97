# Liu et al. 2022: cross-architecture distillation.
losses = dict(cakd=dict(type='CAKDLoss', loss_weight=1.0))
