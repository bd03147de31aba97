# The students' budget: one epoch of warm-up, then a cosine to zero.
train_cfg = dict(
    type='ResumableTrainLoop', max_epochs=14, val_begin=2, val_interval=2
)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5, norm_type=2),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.1,
        begin=0,
        end=1,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        T_max=13,
        begin=1,
        end=14,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
