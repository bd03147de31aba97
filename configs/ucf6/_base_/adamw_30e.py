# The teachers' budget: two epochs of warm-up, then a cosine to zero.
train_cfg = dict(type='ResumableTrainLoop', max_epochs=30, val_interval=5)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.1,
        by_epoch=True,
        end=2,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=2,
        end=30,
        convert_to_iter_based=True,
    ),
]
