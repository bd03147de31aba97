"""Configs of stock recognizers that are small enough to try things out."""


def small_x3d(
    num_classes: int,
    base_channels: int = 8,
    dropout_ratio: float = 0.0,
    **preprocessor,
) -> dict:
    """Returns an X3D of four blocks.

    Args:
        num_classes (int): Classes of its head.
        base_channels (int): Its last map has 18 times as many channels.
            Defaults to 8.
        dropout_ratio (float): Dropout of its head. Defaults to 0.
        **preprocessor: Options of its data preprocessor.
    """
    return dict(
        type='Recognizer3D',
        backbone=dict(
            type='X3D', gamma_w=base_channels / 24, gamma_b=2.25, gamma_d=0.2
        ),
        cls_head=dict(
            type='X3DHead',
            in_channels=base_channels * 18,
            num_classes=num_classes,
            dropout_ratio=dropout_ratio,
            average_clips='prob',
        ),
        data_preprocessor=dict(
            dict(
                type='ActionDataPreprocessor',
                mean=[114.75] * 3,
                std=[57.38] * 3,
                format_shape='NCTHW',
            ),
            **preprocessor,
        ),
    )


def small_mvit(num_classes: int, frames: int, size: int) -> dict:
    """Returns an MViTv2 of two blocks, whose last map has 32 channels."""
    return dict(
        type='Recognizer3D',
        backbone=dict(
            type='MViT',
            arch=dict(
                embed_dims=16, num_layers=2, num_heads=1, downscale_indices=[1]
            ),
            spatial_size=size,
            temporal_size=frames,
            out_scales=[1],
            drop_path_rate=0.5,
        ),
        cls_head=dict(
            type='MViTHead',
            in_channels=32,
            num_classes=num_classes,
            dropout_ratio=0.5,
            average_clips='prob',
        ),
        data_preprocessor=dict(
            type='ActionDataPreprocessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            format_shape='NCTHW',
        ),
    )


def image_recognizer(backbone: dict, width: int, num_classes: int) -> dict:
    """Returns a 2-D recognizer.

    Args:
        backbone (dict): Config of an image backbone.
        width (int): Channels of its last map.
        num_classes (int): Classes of the head.
    """
    return dict(
        type='Recognizer2D',
        backbone=backbone,
        cls_head=dict(
            type='TSNHead',
            in_channels=width,
            num_classes=num_classes,
            average_clips='prob',
        ),
        data_preprocessor=dict(
            type='ActionDataPreprocessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            format_shape='NCHW',
        ),
    )
