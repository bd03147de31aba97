# Zagoruyko & Komodakis 2016: ATKD of the paper's tables.
losses = dict(at=dict(type='ATLoss', loss_weight=20.0))
