# Six classes of UCF101 (Archery, BasketballDunk, HorseRace, PlayingPiano,
# PlayingViolin, Surfing), the clips of the official split 1: 529 for training
# and 202 for validation. Shared clips of 8 frames, 48 px; ten views of each,
# so that teachers are asked once (docs/results.md).
_base_ = '../../_base_/distill_runtime.py'

data_root = 'data/ucf6/videos'
ann_file_train = 'data/ucf6/ucf6_train_split1.txt'
ann_file_val = 'data/ucf6/ucf6_val_split1.txt'

train_pipeline = [
    dict(type='DecordInit'),
    dict(type='SampleFrames', clip_len=8, frame_interval=4, num_clips=1),
    dict(type='DecordDecode'),
    dict(type='RandomResizedCrop', area_range=(0.3, 1.0)),
    dict(type='Resize', scale=(48, 48), keep_ratio=False),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
val_pipeline = [
    dict(type='DecordInit'),
    dict(
        type='SampleFrames',
        clip_len=8,
        frame_interval=4,
        num_clips=1,
        test_mode=True,
    ),
    dict(type='DecordDecode'),
    dict(type='Resize', scale=(-1, 54)),
    dict(type='CenterCrop', crop_size=48),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
test_pipeline = val_pipeline

train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='KeyedViewSampler', shuffle=True),
    dataset=dict(
        type='KeyedViewDataset',
        views=10,
        kept_in='work_dirs/ucf6/views',
        dataset=dict(
            type='CheckedVideoDataset',
            ann_file=ann_file_train,
            data_prefix=dict(video=data_root),
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CheckedVideoDataset',
        ann_file=ann_file_val,
        data_prefix=dict(video=data_root),
        pipeline=val_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='AccMetric')
test_evaluator = val_evaluator

val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

# The last epoch counts, not the best: with 202 clips the best of many would
# be a choice made on the validation set.
default_hooks = dict(
    checkpoint=dict(interval=1, max_keep_ckpts=1, save_best=None)
)
custom_hooks = [
    dict(type='FastStudentHook', layout='channels_last'),
    dict(type='StudentExportHook'),
    dict(type='TeacherCacheHook'),
    dict(type='TeacherReportHook'),
    dict(type='LabelShareHook'),
]
