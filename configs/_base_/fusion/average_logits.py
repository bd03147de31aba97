# KD towards the mean of the logits of the teachers.
fusion_loss = dict(
    type='AverageKDLoss', loss_weight=1.0, tau=4.0, fuse='logit'
)
