# Hao et al. 2023: one for all.
losses = dict(ofa=dict(type='OFALoss'))
