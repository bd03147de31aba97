# EPIC-KITCHENS-100 as it is released: data/epic_kitchens/EPIC-KITCHENS/P01/
# videos/P01_01.MP4, and the CSV files of epic-kitchens-100-annotations. Full
# videos are slow to decode: copies of them with a short side of 256 px, in
# the same folders, serve as well.
# Clips of 224 px, sixteen frames spread over the segment whatever the frame
# rate of its video (30 to 90 fps).
dataset_type = 'EpicKitchensDataset'
data_root = 'data/epic_kitchens/EPIC-KITCHENS'
annotations = 'data/epic_kitchens/epic-kitchens-100-annotations'
ann_file_train = f'{annotations}/EPIC_100_train.csv'
ann_file_val = f'{annotations}/EPIC_100_validation.csv'

train_pipeline = [
    dict(type='SegmentInit'),
    dict(type='UniformSample', clip_len=16),
    dict(type='DecordDecode'),
    dict(type='Resize', scale=(-1, 256)),
    dict(type='RandomResizedCrop'),
    dict(type='Resize', scale=(224, 224), keep_ratio=False),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
val_pipeline = [
    dict(type='SegmentInit'),
    dict(type='UniformSample', clip_len=16, test_mode=True),
    dict(type='DecordDecode'),
    dict(type='Resize', scale=(-1, 256)),
    dict(type='CenterCrop', crop_size=224),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
test_pipeline = [
    dict(type='SegmentInit'),
    dict(type='UniformSample', clip_len=16, test_mode=True),
    dict(type='DecordDecode'),
    dict(type='Resize', scale=(-1, 256)),
    dict(type='ThreeCrop', crop_size=256),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]

train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='KeyedViewSampler', shuffle=True),
    dataset=dict(
        type='KeyedViewDataset',
        dataset=dict(
            type=dataset_type,
            ann_file=ann_file_train,
            data_prefix=dict(video=data_root),
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        ann_file=ann_file_val,
        data_prefix=dict(video=data_root),
        pipeline=val_pipeline,
        test_mode=True,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        ann_file=ann_file_val,
        data_prefix=dict(video=data_root),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)

val_evaluator = dict(type='VerbNounMetric', class_counts=(97, 300))
test_evaluator = val_evaluator
