# The teachers' data and budget: 80 epochs of views never seen twice, mixed.
# Teachers that had seen the students' ten views thirty times knew them by
# heart, and their logits said no more than the labels (docs/results.md).
_base_ = './clips.py'

train_dataloader = dict(dataset=dict(views=None, kept_in=None))
model = dict(
    data_preprocessor=dict(
        blending=dict(type='MixupBlending', num_classes=6, alpha=0.2)
    )
)
train_cfg = dict(type='ResumableTrainLoop', max_epochs=80, val_interval=10)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.1,
        by_epoch=True,
        end=5,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=5,
        end=80,
        convert_to_iter_based=True,
    ),
]
