# Mean of one KD loss per teacher (You et al., KDD 2017).
fusion_loss = dict(type='AverageKDLoss', loss_weight=1.0, tau=4.0)
