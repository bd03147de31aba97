# Discrepancy-aware teacher weighting, the method of the paper (Eq. 3 to 7).
fusion_loss = dict(type='DATWLoss', loss_weight=1.0, tau=4.0)
