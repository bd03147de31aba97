# The students' budget: one epoch of warm-up, then a cosine to zero.
train_cfg = dict(type='ResumableTrainLoop', max_epochs=20, val_interval=20)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.1,
        by_epoch=True,
        end=1,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=1,
        end=20,
        convert_to_iter_based=True,
    ),
]
