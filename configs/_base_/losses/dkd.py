# Zhao et al. 2022. Warm-up: 5 % of 50 epochs.
losses = dict(
    dkd=dict(type='DKDLoss', alpha=1.0, beta=2.0, tau=4.0, warm_up_epochs=3),
)
