# Sun et al. 2024: KD of standardised logits.
losses = dict(
    kd=dict(type='KDLoss', loss_weight=9.0, tau=2.0, standardise=True),
)
