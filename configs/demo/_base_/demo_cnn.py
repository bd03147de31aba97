# The first three stages of a ResNet3d-18 with 3x3x3 convolutions.
model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='ResNet3dSlowOnly',
        depth=18,
        pretrained=None,
        lateral=False,
        base_channels=16,
        num_stages=3,
        out_indices=(2,),
        conv1_kernel=(5, 5, 5),
        conv1_stride_t=2,
        pool1_stride_t=1,
        inflate=(1, 1, 1),
        spatial_strides=(1, 2, 2),
        temporal_strides=(1, 1, 1),
        dilations=(1, 1, 1),
        norm_eval=False,
    ),
    cls_head=dict(
        type='I3DHead',
        in_channels=64,
        num_classes=8,
        dropout_ratio=0.2,
        average_clips='prob',
    ),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        format_shape='NCTHW',
    ),
)
