# A public fine-tuning recipe of MViTv2-S on UCF101: the paper's own for its
# ViT teacher is not published, and SGD at 0.01 is not one that ViTs are
# trained with.
train_cfg = dict(
    type='ResumableTrainLoop', max_epochs=50, val_begin=1, val_interval=1
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1.6e-4, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=15),
    dict(
        type='CosineAnnealingLR',
        T_max=35,
        eta_min=1.6e-6,
        by_epoch=True,
        begin=15,
        end=50,
    ),
]

auto_scale_lr = dict(enable=False, base_batch_size=64)
