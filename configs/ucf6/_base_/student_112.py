# The students' clips and budget, with shared clips of 112 px for teachers with
# pretrained image backbones. The student keeps its 48 px by its own view:
#     student=dict(..., view=dict(frames=8, size=48))
#     vit_teacher=dict(..., view=dict(frames=4, size=112))
# A view of 4 of the 8 frames takes every second one, so it has the frames that
# the teachers' stage-one configs sample (image_teacher.py).
_base_ = './student.py'

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
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
