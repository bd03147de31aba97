# Park et al. 2019, at the official weights.
losses = dict(
    rkd=dict(
        type='RKDLoss', distance_weight=25.0, angle_weight=50.0, gather=True
    ),
)
