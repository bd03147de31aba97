# The students' budget: 112 epochs of their 120 clips, 784 steps, of which
# some are warm-up, then a cosine to zero.
_base_ = './demo_clips.py'

train_cfg = dict(
    type='ResumableTrainLoop', max_epochs=112, val_begin=14, val_interval=14
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
        end=8,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        T_max=104,
        begin=8,
        end=112,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(
    logger=dict(interval=7),
    checkpoint=dict(interval=112, max_keep_ckpts=1, save_best=None),
)
