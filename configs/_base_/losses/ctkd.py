# Li et al. 2023: KD with a temperature that is learnt against the student.
losses = dict(ctkd=dict(type='CTKDLoss', loss_weight=1.0, decay_epochs=10))
