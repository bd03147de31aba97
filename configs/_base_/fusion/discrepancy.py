# Weighted by the distance of the teachers from the student alone (Eq. 5).
fusion_loss = dict(
    type='DATWLoss', loss_weight=1.0, tau=4.0, score='discrepancy'
)
