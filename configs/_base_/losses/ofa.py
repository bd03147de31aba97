# Hao et al. 2023: one for all.
losses = dict(ofa=dict(type='OFALoss', stage_weight=0.5, final_weight=1.0))
