# Confidence-aware KD (Zhang et al., ICASSP 2022), logits alone. Weights that
# sum to 1 are divided by K: K makes the loss as large as with one teacher.
# This is for two teachers; set loss_weight=3.0 for three.
fusion_loss = dict(type='CAMKDLoss', loss_weight=2.0, tau=4.0)
