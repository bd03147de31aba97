# Confidence-aware KD with its feature term, as in its paper. For two teachers,
# as camkd.py. The teachers run: no cache holds their classification layers.
fusion_loss = dict(
    type='CAMKDLoss', loss_weight=2.0, tau=4.0, feature_weight=1.0
)
