# Clips of tools/data/make_demo_clips.py: 8 of 12 frames, 32 of 36 px, at a
# random place in training. No flip, since a mirror turns "right" into "left".
_base_ = '../../_base_/default_runtime.py'

data_root = 'data/demo/seed_0/videos'
ann_file_train = 'data/demo/seed_0/demo_train_split_1_videos.txt'
ann_file_val = 'data/demo/seed_0/demo_val_split_1_videos.txt'

train_pipeline = [
    dict(type='DecordInit'),
    dict(type='SampleFrames', clip_len=8, frame_interval=1, num_clips=1),
    dict(type='DecordDecode'),
    dict(type='RandomCrop', size=32),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
val_pipeline = [
    dict(type='DecordInit'),
    dict(
        type='SampleFrames',
        clip_len=8,
        frame_interval=1,
        num_clips=1,
        test_mode=True,
    ),
    dict(type='DecordDecode'),
    dict(type='CenterCrop', crop_size=32),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
test_pipeline = val_pipeline

# Views are kept on disk, so that a clip is decoded once for both teachers and
# once for both students.
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='KeyedViewSampler', shuffle=True),
    dataset=dict(
        type='KeyedViewDataset',
        views=28,
        kept_in='work_dirs/demo/seed_0/views',
        dataset=dict(
            type='CheckedVideoDataset',
            ann_file=ann_file_train,
            data_prefix=dict(video=data_root),
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    batch_size=50,
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
