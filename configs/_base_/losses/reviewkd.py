# Chen et al. 2021. Warm-up: 5 % of 50 epochs.
losses = dict(
    review=dict(type='ReviewKDLoss', loss_weight=1.0, warm_up_epochs=3),
)
