# Teacher dropping of UNIC (Sariyildiz et al., ECCV 2024).
fusion_loss = dict(
    type='UNICDropLoss', loss_weight=1.0, tau=4.0, drop_probability=0.5
)
