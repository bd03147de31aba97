# Tian et al. 2019. HMDB51's split 1 has 3570 training clips.
losses = dict(
    crd=dict(type='CRDLoss', loss_weight=0.8, num_samples=3570, negatives=892),
)
