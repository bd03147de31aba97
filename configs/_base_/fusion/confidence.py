# Weighted by the confidence of the teachers alone (Eq. 4).
fusion_loss = dict(
    type='DATWLoss', loss_weight=1.0, tau=4.0, score='confidence'
)
