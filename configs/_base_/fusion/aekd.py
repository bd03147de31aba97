# Adaptive ensemble KD in gradient space (Du et al., NeurIPS 2020).
fusion_loss = dict(type='AEKDLoss', loss_weight=1.0, tau=4.0)
