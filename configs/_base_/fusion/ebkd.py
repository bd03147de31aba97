# Entropy-based KD (Kwon et al., ICASSP 2020). Weights that sum to K - 1 are
# divided by K: K / (K - 1) makes the loss as large as with one teacher. This
# is for two teachers; set loss_weight=1.5 for three.
fusion_loss = dict(type='EBKDLoss', loss_weight=2.0, tau=4.0)
