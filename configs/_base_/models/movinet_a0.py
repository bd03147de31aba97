# MoViNet-A0, from scratch. Converted weights of the PyTorch port:
# tools/convert/movinet_from_pytorch_port.py, then load_from or a model spec's
# checkpoint. backbone.causal=True is the streaming form.
model = dict(
    type='Recognizer3D',
    backbone=dict(type='MoViNet', arch='a0'),
    cls_head=dict(
        type='MoViNetHead',
        in_channels=480,
        num_classes=400,
        dropout_ratio=0.2,
        average_clips='prob',
    ),
    # RGB in [0, 1]
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[0.0, 0.0, 0.0],
        std=[255.0, 255.0, 255.0],
        format_shape='NCTHW',
    ),
    train_cfg=None,
    test_cfg=None,
)
