"""Rewritten models give the stock models' answers."""

import pytest
import torch
import torch.nn as nn
from mmengine.config import Config
from tiny_models import FRAMES, SIZE, tiny_mvit, tiny_tsn, tiny_x3d

from dtkd_mmaction.acceleration import REWRITES, optimise, to_channels_last
from dtkd_mmaction.acceleration.optimiser import apply_all, take_back
from dtkd_mmaction.distillers.model_spec import build_recognizer
from dtkd_mmaction.distillers.teacher import FrozenTeacher

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


MODELS = dict(
    mvit=mvit(),
    mvit_no_residual=mvit(residual_pooling=False),
    mvit_no_positions=mvit(rel_pos_embed=False),
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
    tsn=tiny_tsn(),
)
MODELS['r2plus1d']['backbone'].pop('lateral')
MODELS['r2plus1d']['backbone']['pretrained2d'] = False
MODELS['r2plus1d']['backbone']['base_channels'] = 64
MODELS['r2plus1d']['cls_head']['in_channels'] = 512
# Which rewrites find something in them.
FOUND = dict(
    mvit=['remove_drop_path', 'mvit_attention'],
    mvit_no_residual=['remove_drop_path', 'mvit_attention'],
    mvit_no_positions=['remove_drop_path', 'mvit_attention'],
    x3d=['fold_batchnorm', 'channels_last'],
    slow_only=['fold_batchnorm', 'channels_last'],
    r2plus1d=['fold_batchnorm', 'channels_last'],
    swin=['remove_drop_path', 'swin_attention'],
    timesformer=['remove_drop_path', 'attention_weights'],
    tsn=['fold_batchnorm'],
    movinet=['remove_drop_path', 'fold_batchnorm', 'channels_last'],
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
    found.recognizer.load_state_dict(build(name).state_dict())
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


@pytest.mark.parametrize('name', MODELS)
def test_optimised_teachers_say_the_same(name, logged):
    stock, optimised = teacher(name), teacher(name)
    optimised.optimise()
    assert f'optimised by {FOUND[name]}' in logged()
    assert_same(answers(optimised), answers(stock))


@pytest.mark.parametrize('name', MODELS)
def test_undone_is_the_stock_model_to_the_bit(name):
    model = teacher(name)
    wanted = answers(model)
    made, undo = apply_all(model.recognizer, REWRITES)
    assert made == FOUND[name]
    take_back(undo)
    for ours, theirs in zip(answers(model), wanted):
        assert torch.equal(ours, theirs)
    assert (
        model.recognizer.state_dict().keys() == build(name).state_dict().keys()
    )


@pytest.mark.parametrize('name', ['x3d', 'slow_only', 'r2plus1d', 'movinet'])
def test_no_batchnorm_is_left_behind_a_convolution(name):
    """But for the first one, whose convolution is a tap."""
    model = teacher(name)
    before = [m for m in model.modules() if isinstance(m, nn.BatchNorm3d)]
    model.optimise()
    left = [m for m in model.modules() if isinstance(m, nn.BatchNorm3d)]
    assert len(left) <= 1 < len(before)


@pytest.mark.parametrize('name', ['mvit', 'swin'])
def test_attention_is_fused(name, monkeypatch):
    model = teacher(name)
    model.optimise()

    def softmax(*_, **__):
        raise AssertionError('a matrix of weights was made')

    monkeypatch.setattr(torch.Tensor, 'softmax', softmax)
    monkeypatch.setattr(nn.Softmax, 'forward', softmax)
    model(clips())


def test_channels_last_is_for_cnns():
    assert REWRITES['channels_last'](build('mvit')) == []
    assert REWRITES['channels_last'](build('x3d'))


def test_only_what_it_was_asked_for():
    chosen = dict.fromkeys(REWRITES, False)
    model = teacher('x3d', optimise=dict(chosen, fold_batchnorm=True))
    model.optimise()
    convolution = model.recognizer.backbone.layer1[0].conv1.conv
    assert convolution.bias is not None
    assert convolution.weight.is_contiguous()
    untouched = teacher('x3d', optimise=False)
    untouched.optimise()
    assert torch.equal(answers(untouched)[0], answers(teacher('x3d'))[0])


def test_a_rewrite_that_disagrees_is_left_out(logged):
    def wrong(model):
        weight = model.cls_head.fc2.weight
        weight.data = weight.data * 1.001

        def undo():
            weight.data = weight.data / 1.001

        return [undo]

    def broken(model):
        convolution = model.backbone.conv1_s.conv
        before, convolution.forward = convolution.forward, None

        def undo():
            convolution.forward = before

        return [undo]

    model = teacher('x3d')
    wanted = answers(model)
    made = optimise(
        model.recognizer,
        model._answers,
        dict(wrong=wrong, broken=broken, **REWRITES),
        'model.cnn_teacher',
    )
    assert made == FOUND['x3d']
    text = logged()
    assert "model.cnn_teacher: the rewrite 'wrong' is left out" in text
    assert 'logits differs by' in text
    assert "the rewrite 'broken' is left out: TypeError" in text
    assert_same(answers(model), wanted)


def test_stochastic_teachers_are_not_rewritten():
    model = FrozenTeacher(
        dict(cfg=MODELS['x3d'], checkpoint=None), mode='bn_eval_only'
    )
    model.optimise()
    assert any(isinstance(m, nn.BatchNorm3d) for m in model.modules())


def test_other_models_of_the_class_are_stock():
    """Instances are rewritten, never classes."""
    optimised = teacher('mvit')
    optimised.optimise()
    fresh = build('mvit').backbone.blocks[0].attn
    assert 'forward' not in vars(fresh)


@pytest.mark.parametrize('name', ['mvit', 'swin', 'x3d', 'timesformer'])
def test_follows_its_device_and_dtype(name):
    """Tables are made where the tokens are."""
    model = teacher(name)
    wanted = answers(model)
    model.optimise()
    answers(model)
    model.double()
    found = [a.float() for a in (model(clips()).logits, model(clips()).map)]
    assert_same(found, [wanted[0], wanted[2]])


@pytest.mark.parametrize('name', ['mvit', 'x3d'])
def test_low_precision_is_near_and_given_in_float32(name):
    exact, rough = teacher(name), teacher(name, precision='bf16')
    rough.optimise()
    ours, theirs = answers(rough), answers(exact)
    assert all(a.dtype == torch.float32 for a in ours)
    scale = float(theirs[0].std())
    distance = float((ours[0] - theirs[0]).abs().max())
    assert 1e-5 * scale < distance < 0.5 * scale


def test_mixed_precision_of_the_student_is_not_the_teachers():
    model = teacher('x3d')
    wanted = model(clips()).logits
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(model(clips()).logits, wanted)


def test_compile_is_of_the_backbone(monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, 'compile', lambda m: compiled.append(m))
    model = teacher('mvit', compile=True)
    model.optimise()
    assert compiled == [model.recognizer.backbone]


@pytest.mark.parametrize(
    'option, message',
    [
        (dict(optimise=dict(fold=True)), r"optimise names \['fold'\]"),
        (dict(precision='int8'), "precision='int8'"),
        (dict(speed=1), r"unknown keys \['speed'\]"),
    ],
)
def test_bad_options(option, message):
    with pytest.raises((ValueError, TypeError), match=message):
        teacher('x3d', **option)


def test_a_student_is_not_rewritten():
    from dtkd_mmaction.distillers.base import build_student

    spec = dict(cfg=MODELS['x3d'], optimise=True)
    with pytest.raises(TypeError, match=r'student\.optimise.*FastStudent'):
        build_student(spec, None, 'model.student')


def test_to_channels_last_can_be_undone():
    model = build('x3d')
    undo = to_channels_last(model)
    weight = model.backbone.layer1[0].conv1.conv.weight
    take_back(undo)
    assert weight.is_contiguous()
