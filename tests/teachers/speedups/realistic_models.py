"""Small stock models with weights that matter, as stock and as teachers."""

from functools import lru_cache

import torch
import torch.nn as nn
from mmengine.config import Config
from tiny_models import FRAMES, SIZE, tiny_mvit, tiny_tsn, tiny_x3d

from dtkd_mmaction.recognizers.model_spec import build_recognizer
from dtkd_mmaction.teachers.frozen_teacher import FrozenTeacher

PREPROCESSOR = dict(
    type='ActionDataPreprocessor',
    mean=[114.75] * 3,
    std=[57.38] * 3,
    format_shape='NCTHW',
)


def head(channels, **options):
    return dict(
        dict(
            type='I3DHead',
            in_channels=channels,
            num_classes=4,
            average_clips='prob',
        ),
        **options,
    )


def mvit(**backbone):
    cfg = tiny_mvit()
    cfg['backbone'].update(backbone)
    cfg['cls_head']['with_cls_token'] = backbone.get('with_cls_token', True)
    return cfg


def resnet(backbone='ResNet3dSlowOnly', channels=64, **options):
    return dict(
        type='Recognizer3D',
        backbone=dict(
            dict(
                type=backbone,
                depth=18,
                pretrained=None,
                lateral=False,
                base_channels=8,
                norm_eval=False,
            ),
            **options,
        ),
        cls_head=head(channels),
        data_preprocessor=PREPROCESSOR,
    )


def slow_fast():
    pathway = dict(
        type='resnet3d',
        depth=18,
        pretrained=None,
        conv1_kernel=(1, 7, 7),
        dilations=(1, 1, 1, 1),
        conv1_stride_t=1,
        pool1_stride_t=1,
        norm_eval=False,
    )
    return dict(
        type='Recognizer3D',
        backbone=dict(
            type='ResNet3dSlowFast',
            pretrained=None,
            resample_rate=2,
            speed_ratio=2,
            channel_ratio=4,
            slow_pathway=dict(
                pathway,
                lateral=True,
                base_channels=16,
                inflate=(0, 0, 1, 1),
            ),
            fast_pathway=dict(pathway, lateral=False, base_channels=4),
        ),
        cls_head=dict(
            type='SlowFastHead',
            in_channels=160,
            num_classes=4,
            average_clips='prob',
        ),
        data_preprocessor=PREPROCESSOR,
    )


def swin():
    return dict(
        type='Recognizer3D',
        backbone=dict(
            type='SwinTransformer3D',
            arch=dict(embed_dims=24, depths=[2, 2], num_heads=[2, 4]),
            patch_size=(2, 4, 4),
            window_size=(2, 3, 3),  # 8x8 patches: padded, shifted
            out_indices=(1,),
            drop_path_rate=0.3,
        ),
        cls_head=head(48),
        data_preprocessor=PREPROCESSOR,
    )


def timesformer():
    return dict(
        type='Recognizer3D',
        backbone=dict(
            type='TimeSformer',
            num_frames=FRAMES,
            img_size=SIZE,
            patch_size=16,
            embed_dims=32,
            num_heads=4,
            num_transformer_layers=2,
            attention_type='divided_space_time',
        ),
        cls_head=dict(
            type='TimeSformerHead',
            in_channels=32,
            num_classes=4,
            average_clips='prob',
        ),
        data_preprocessor=PREPROCESSOR,
    )


def movinet():
    return dict(
        type='Recognizer3D',
        backbone=dict(type='MoViNet', arch='a0'),
        cls_head=dict(
            type='MoViNetHead',
            num_classes=4,
            in_channels=480,
            average_clips='prob',
        ),
        data_preprocessor=PREPROCESSOR,
    )


def image_backbone(channels, **backbone):
    """A 2-D recognizer with a backbone of another package."""
    return dict(
        type='Recognizer2D',
        backbone=backbone,
        cls_head=dict(
            type='TSNHead',
            in_channels=channels,
            num_classes=4,
            average_clips='prob',
        ),
        data_preprocessor=dict(PREPROCESSOR, format_shape='NCHW'),
    )


def timm_swin():
    return image_backbone(
        48,
        type='timm.swin_tiny_patch4_window7_224',
        feature_shape='NHWC',
        embed_dim=24,
        depths=(2, 2),
        num_heads=(2, 4),
        img_size=32,
        window_size=4,
    )


IMAGE_BACKBONES = dict(
    timm_efficientnet=image_backbone(
        1280, type='timm.tf_efficientnet_lite0', pretrained=False
    ),
    timm_resnet=image_backbone(512, type='timm.resnet10t', pretrained=False),
    timm_vit=image_backbone(
        48,
        type='timm.vit_tiny_patch16_224',
        img_size=32,
        embed_dim=48,
        depth=2,
        num_heads=4,
        patch_size=8,
    ),
    timm_swin=timm_swin(),
    torchvision_resnet=image_backbone(512, type='torchvision.resnet18'),
    torchvision_mobilenet=image_backbone(
        1280, type='torchvision.mobilenet_v2'
    ),
    mmpretrain_resnet=image_backbone(
        512, type='mmpretrain.ResNet', depth=18, norm_eval=False
    ),
)
MODELS = dict(
    mvit=mvit(),
    mvit_no_residual=mvit(residual_pooling=False),
    mvit_no_positions=mvit(rel_pos_embed=False),
    mvit_no_class_token=mvit(with_cls_token=False, output_cls_token=False),
    x3d=tiny_x3d(),
    slow_only=resnet(
        conv1_kernel=(1, 5, 5), conv1_stride_t=1, pool1_stride_t=1
    ),
    r2plus1d=resnet(
        'ResNet2Plus1d',
        lateral=None,
        conv_cfg=dict(type='Conv2plus1d'),
        conv1_kernel=(3, 7, 7),
        conv1_stride_t=1,
        pool1_stride_t=1,
        inflate=(1, 1, 1, 1),
        spatial_strides=(1, 2, 2, 2),
        temporal_strides=(1, 1, 1, 1),
    ),
    swin=swin(),
    timesformer=timesformer(),
    movinet=movinet(),
    slow_fast=slow_fast(),
    tsn=tiny_tsn(),
    **IMAGE_BACKBONES,
)
MODELS['r2plus1d']['backbone'].pop('lateral')
MODELS['r2plus1d']['backbone']['pretrained2d'] = False
MODELS['r2plus1d']['backbone']['base_channels'] = 64
MODELS['r2plus1d']['cls_head']['in_channels'] = 512
# Speedups that change something in them.
FOUND = dict(
    mvit=['remove_drop_path', 'mvit_attention'],
    mvit_no_residual=['remove_drop_path', 'mvit_attention'],
    mvit_no_positions=['remove_drop_path', 'mvit_attention'],
    mvit_no_class_token=['remove_drop_path', 'mvit_attention'],
    x3d=['fold_batchnorm', 'channels_last'],
    slow_only=['fold_batchnorm', 'channels_last'],
    r2plus1d=['fold_batchnorm', 'channels_last'],
    swin=['remove_drop_path', 'swin_attention'],
    timesformer=['remove_drop_path', 'attention_weights'],
    slow_fast=['fold_batchnorm', 'channels_last'],
    tsn=['fold_batchnorm', 'channels_last'],
    movinet=['remove_drop_path', 'fold_batchnorm', 'channels_last'],
    timm_efficientnet=['fold_batchnorm', 'channels_last'],
    timm_resnet=['fold_batchnorm', 'channels_last'],
    timm_vit=[],
    timm_swin=['remove_drop_path', 'timm_attention'],
    torchvision_resnet=['fold_batchnorm', 'channels_last'],
    torchvision_mobilenet=['fold_batchnorm', 'channels_last'],
    mmpretrain_resnet=['fold_batchnorm', 'channels_last'],
)


def build(name):
    """A model whose weights matter: no zero tables, no neutral norms."""
    torch.manual_seed(0)
    model = build_recognizer(Config(dict(model=MODELS[name])), name).eval()
    for parameter_name, parameter in model.named_parameters():
        if 'rel_pos' in parameter_name or 'bias_table' in parameter_name:
            nn.init.normal_(parameter, std=0.5)
        elif parameter.ndim > 1:
            fan_in = parameter[0].numel()
            nn.init.normal_(parameter, std=1.4 / fan_in**0.5)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model


@lru_cache(maxsize=None)
def weights(name):
    """The state dict of :func:`build`, made once."""
    return build(name).state_dict()


def teacher(name, **spec):
    """A frozen teacher with the weights of :func:`build`."""
    found = FrozenTeacher(
        dict(
            cfg=MODELS[name],
            checkpoint=None,
            view=dict(frames=FRAMES, size=SIZE),
            **spec,
        )
    )
    found.recognizer.load_state_dict(weights(name))
    return found


def clips(batch=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(
        0, 256, (batch, 1, 3, FRAMES, SIZE, SIZE), generator=generator
    ).to(torch.uint8)


def answers(model):
    found = model(clips(), ('maps', 'stem'))
    stem = [found.stem] if model.tap.stem_name else []
    return [found.logits, found.embedding, found.map, *found.maps, *stem]


def assert_same(ours, theirs, tolerance=5e-5):
    for a, b in zip(ours, theirs):
        scale = float(b.std())
        assert scale > 1e-3
        assert float((a - b).abs().max()) <= tolerance * 10 * scale
    # the promise: of the logits
    assert float((ours[0] - theirs[0]).abs().max()) <= tolerance * float(
        theirs[0].std()
    )
