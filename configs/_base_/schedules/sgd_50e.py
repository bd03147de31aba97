# The paper gives SGD, lr 0.01, batch 64 and MultiStepLR. Epochs, milestones,
# momentum, weight decay and clipping are not published; these are those of a
# public HMDB51 fine-tuning recipe for 3-D CNNs.
train_cfg = dict(
    type='ResumableTrainLoop', max_epochs=50, val_begin=1, val_interval=1
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4),
    clip_grad=dict(max_norm=40, norm_type=2),
)
param_scheduler = [
    dict(
        type='MultiStepLR',
        begin=0,
        end=50,
        by_epoch=True,
        milestones=[20, 40],
        gamma=0.1,
    )
]

# batch_size x processes. With --auto-scale-lr the rate follows the batch.
auto_scale_lr = dict(enable=False, base_batch_size=64)
