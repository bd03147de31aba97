# DT-KD from the pretrained teachers into the small 3-D ResNet, which sees
# every second frame: 80 epochs, 640 steps (docs/results.md).
_base_ = './ucf6_pretrained.py'

model = dict(
    student=dict(
        cfg='{{ fileDirname }}/ucf6_resnet3d_alone.py',
        view=dict(frames=4, size=48),
    )
)
val_pipeline = [
    dict(type='DecordInit'),
    dict(
        type='SampleFrames',
        clip_len=4,
        frame_interval=8,
        num_clips=1,
        test_mode=True,
    ),
    dict(type='DecordDecode'),
    dict(type='Resize', scale=(-1, 54)),
    dict(type='CenterCrop', crop_size=48),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=80, val_interval=80, stretch_schedule=True)
