# The teachers' clips, 1,024 that the student never sees, and their budget:
# 640 steps, some for warm-up, then a cosine to zero.
_base_ = './demo_clips.py'

ann_file_train = 'data/demo/seed_0/demo_pretrain_split_1_videos.txt'
train_dataloader = dict(
    dataset=dict(views=5, dataset=dict(ann_file=ann_file_train))
)
train_cfg = dict(
    type='ResumableTrainLoop', max_epochs=10, val_begin=2, val_interval=2
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
        T_max=9,
        begin=1,
        end=10,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(
    logger=dict(interval=16),
    checkpoint=dict(interval=10, max_keep_ckpts=1, save_best=None),
)
