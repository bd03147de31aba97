# The clips of clips.py at 112 px, for teachers with pretrained image
# backbones: shared clips of 8 frames at distance 4. A view of 4 frames takes
# every second one, so these are the frames of clip_len=4, frame_interval=8.
_base_ = './clips.py'

train_pipeline = [
    dict(type='DecordInit'),
    dict(type='SampleFrames', clip_len=8, frame_interval=4, num_clips=1),
    dict(type='DecordDecode'),
    dict(type='RandomResizedCrop', area_range=(0.3, 1.0)),
    dict(type='Resize', scale=(112, 112), keep_ratio=False),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
train_dataloader = dict(
    dataset=dict(dataset=dict(pipeline=train_pipeline)),
)
