# Guo et al. 2024: the student's stem reconstructs the teacher's larger clip.
losses = dict(
    kd=dict(type='KDLoss', loss_weight=1.0, tau=4.0),
    pixel=dict(type='PixelKDLoss', loss_weight=10.0),
)
