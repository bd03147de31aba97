import copy

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from mmaction.structures import ActionDataSample
from mmengine.analysis import get_model_complexity_info
from movinet_reference import clip, fill, filled_network, pattern

from dtkd_mmaction.backbones import MoViNet
from dtkd_mmaction.backbones.movinet_archs import ARCHS
from dtkd_mmaction.backbones.movinet_layers import (
    Bottleneck,
    SkipPool,
    make_divisible,
    positional_encoding,
    same_padding,
)
from dtkd_mmaction.heads import MoViNetHead
from dtkd_mmaction.recognizers.feature_tap import FeatureTap
from dtkd_mmaction.recognizers.model_spec import build_recognizer, load_config

NORM = dict(type='BN3d')


def count(module):
    return sum(weight.numel() for weight in module.parameters())


def on_meta(arch, **kwargs):
    with torch.device('meta'):
        return MoViNet(arch, **kwargs)


# Size and cost


@pytest.mark.parametrize(
    'arch, base, stream, layers, norms, channels',
    [
        ('a0', 897311, 1533543, 15, 51, 480),
        ('a1', 2230048, 3987104, 24, 78, 600),
        ('a2', 2707394, 4784794, 26, 84, 640),
        ('a3', 4642385, 8231425, 33, 106, 744),
        ('a4', 8364927, 15151599, 47, 147, 856),
        ('a5', 15387459, 28232811, 59, 184, 992),
    ],
)
def test_parameters(arch, base, stream, layers, norms, channels):
    network = on_meta(arch)
    assert count(network) == base
    assert network.out_channels == channels
    modules = list(network.modules())
    assert sum(isinstance(m, nn.BatchNorm3d) for m in modules) == norms
    assert sum(isinstance(m, Bottleneck) for m in modules) == layers
    assert count(on_meta(arch, causal=True, pos_encoding=False)) == stream
    # The published streaming A3, A4 and A5 know the frame's position.
    scalars = layers if arch in ('a3', 'a4', 'a5') else 0
    assert count(on_meta(arch, causal=True)) == stream + scalars


def test_parameters_of_the_parts():
    a2 = on_meta('a2')
    parts = [a2.stem, *a2.stages, a2.conv7]
    assert [count(part) for part in parts] == [
        464,
        14179,
        87277,
        312733,
        406926,
        1792375,
        93440,
    ]


def test_parameters_of_mixed_forms():
    head = 1312768  # of A2, without classes
    a2 = count(on_meta('a2', causal=True, conv_type='3d'))
    assert a2 + head + 600 * 2049 == 7392554
    assert count(on_meta('a2', conv_type='2plus1d')) + head + 51 * 2049 == (
        4059069
    )


@pytest.mark.parametrize(
    'arch, shape, flops',
    [
        ('a2', (16, 224, 224), 3849003776),
        ('a0', (8, 172, 172), 442588608),
    ],
)
def test_flops(arch, shape, flops):
    backbone = MoViNet(arch)
    network = nn.Sequential(backbone, MoViNetHead(51, backbone.out_channels))
    result = get_model_complexity_info(
        network.eval(), (3,) + shape, show_table=False, show_arch=False
    )
    assert result['flops'] == flops


# The numbers of the official network


@pytest.mark.parametrize(
    'arch, form, shape, expected',
    [
        (
            'a0',
            {},
            (4, 86),
            (-1.506023074, 0.055151413, -0.304496258, 0.070704731, 36),
        ),
        (
            'a2',
            {},
            (4, 86),
            (-1.143411359, 0.156207967, -0.303299007, 0.032780605, 49),
        ),
        (
            'a2',
            dict(padding='symmetric'),
            (4, 86),
            (-0.396659832, 0.080550061, -0.192490726, 0.022570164, 49),
        ),
        (
            'a0',
            dict(causal=True),
            (6, 64),
            (-0.352762054, 0.015336148, -0.183261242, 0.038671084, 36),
        ),
    ],
)
@torch.no_grad()
def test_logits(arch, form, shape, expected):
    backbone, head = filled_network(arch, **form)
    logits = head(backbone(clip(*shape)))[0]
    found = [logits.sum(), *logits[:3]]
    assert [float(x) for x in found] == pytest.approx(expected[:4], abs=1e-8)
    assert logits.argmax() == expected[4]


@torch.no_grad()
def test_maps_of_every_stage():
    """A2 on 8 x 112 x 112: where a wrong layer would first show."""
    backbone, head = filled_network('a2')
    maps = []
    for part in (backbone.stem, *backbone.stages, backbone.conv7):
        part.register_forward_hook(lambda _, __, output: maps.append(output))
    logits = head(backbone(clip(8, 112)))[0]
    assert [tuple(m.shape[1:]) for m in maps] == [
        (16, 8, 56, 56),
        (16, 8, 28, 28),
        (40, 8, 14, 14),
        (72, 8, 7, 7),
        (72, 8, 7, 7),
        (144, 8, 4, 4),
        (640, 8, 4, 4),
    ]
    assert [float(m.abs().mean()) for m in maps] == pytest.approx(
        [
            0.157583892,
            0.093996343,
            0.085914514,
            0.106908183,
            0.152638478,
            0.208770046,
            0.154221208,
        ],
        abs=1e-8,
    )
    assert float(logits.sum()) == pytest.approx(-1.334797707, abs=1e-8)
    single = head.float()(backbone.float()(clip(8, 112).float()))[0]
    assert torch.allclose(single.double(), logits, atol=1e-5)


@pytest.mark.parametrize(
    'width, rounded',
    [(6, 8), (10, 16), (20, 24), (36, 40), (60, 64), (114, 112), (12, 16)],
)
def test_make_divisible(width, rounded):
    assert make_divisible(width) == rounded


# Padding


def test_same_padding_puts_the_odd_zero_after():
    assert same_padding(8, 3, 2) == (0, 1)
    assert same_padding(8, 5, 2) == (1, 2)
    assert same_padding(7, 3, 2) == (1, 1)
    assert same_padding(7, 5, 2) == (2, 2)
    assert same_padding(7, 3, 1) == (1, 1)


@pytest.mark.parametrize('height', range(1, 8))
@pytest.mark.parametrize('width', range(1, 8))
def test_skip_pool_averages_real_pixels(height, width):
    x = torch.randn(2, 3, 2, height, width)
    pads = same_padding(width, 3, 2) + same_padding(height, 3, 2)

    def sums(maps):
        return F.avg_pool3d(
            F.pad(maps, pads), (1, 3, 3), (1, 2, 2), divisor_override=1
        )

    expected = sums(x) / sums(torch.ones_like(x))
    assert torch.allclose(SkipPool()(x), expected, atol=1e-6)


@pytest.mark.parametrize('padding', ['same', 'symmetric'])
@pytest.mark.parametrize(
    'frames, height, width',
    [(1, 32, 32), (2, 33, 64), (3, 86, 47), (5, 1, 2), (2, 29, 30)],
)
@torch.no_grad()
def test_any_size(frames, height, width, padding):
    for form in (dict(), dict(causal=True)):
        network = MoViNet('a0', padding=padding, **form).eval()
        out = network(torch.rand(2, 3, frames, height, width))
        assert out.shape == (2, 480, frames, -(-height // 32), -(-width // 32))


@torch.no_grad()
def test_height_and_width_are_alike():
    network = fill(MoViNet('a0'))
    turned = copy.deepcopy(network)
    for weight in turned.parameters():
        if weight.ndim == 5:
            weight.copy_(weight.transpose(3, 4).clone())
    x = clip(2, 45, 70)
    assert torch.allclose(
        turned(x.transpose(3, 4)).transpose(3, 4), network(x), atol=1e-12
    )


@pytest.mark.parametrize('causal', [False, True])
@torch.no_grad()
def test_clips_of_a_batch_are_independent(causal):
    network = fill(MoViNet('a0', causal=causal))
    x = pattern((3, 3, 3, 40, 40), 13, 101, 7, 9973)
    assert torch.allclose(
        network(x), torch.cat([network(one) for one in x.split(1)]), atol=1e-12
    )


# Streaming


@torch.no_grad()
def streamed(backbone, head, video, cuts):
    """Maps and last logits of a video in pieces."""
    maps, state, head_state = [], None, None
    for piece in video.split(cuts, dim=2):
        feats, state = backbone.stream(piece, state)
        logits, head_state = head.stream(feats, head_state)
        maps.append(feats)
    return torch.cat(maps, dim=2), logits


@pytest.mark.parametrize(
    'arch, form',
    [
        ('a0', {}),
        ('a0', dict(conv_type='3d')),
        ('a0', dict(pos_encoding=True)),
        ('a0', dict(padding='symmetric')),
        ('a3', {}),
    ],
)
def test_a_stream_may_be_cut_anywhere(arch, form):
    backbone, head = filled_network(arch, causal=True, **form)
    size = 64 if arch == 'a0' else 32
    video = pattern((2, 3, 6, size, size - 11), 13, 101, 7, 9973)
    with torch.no_grad():
        maps = backbone(video)
        logits = head(maps)
    for cuts in ([6], [1] * 6, [1, 4, 1]):
        pieces, last = streamed(backbone, head, video, cuts)
        assert torch.allclose(pieces, maps, atol=1e-12)
        assert torch.allclose(last, logits, atol=1e-12)


@pytest.mark.parametrize('conv_type', ['3d', '2plus1d'])
@torch.no_grad()
def test_only_the_causal_form_ignores_what_follows(conv_type):
    video = clip(6, 40)
    other = video.clone()
    other[:, :, 4:] = 0.3
    for causal in (True, False):
        network = fill(MoViNet('a0', causal=causal, conv_type=conv_type))
        before, after = network(video), network(other)
        assert (before[:, :, :4] == after[:, :, :4]).all() == causal
        assert not torch.allclose(before[:, :, 4:], after[:, :, 4:])


@torch.no_grad()
def test_state_is_the_callers():
    network = fill(MoViNet('a0', causal=True))
    video = clip(6, 40)
    names = set(network.state_dict())
    _, state = network.stream(video[:, :, :3])
    kept = copy.deepcopy(state)
    once, _ = network.stream(video[:, :, 3:], state)
    # Nothing is left in the modules, and the state can be used again.
    assert torch.equal(network.stream(video[:, :, 3:], state)[0], once)
    for stage, kept_stage in zip(state, kept):
        for layer, kept_layer in zip(stage, kept_stage):
            assert layer.keys() == kept_layer.keys()
            for name in layer:
                assert torch.equal(
                    torch.as_tensor(layer[name]),
                    torch.as_tensor(kept_layer[name]),
                )
    assert set(network.state_dict()) == names
    assert torch.equal(network.stream(video)[0], copy.deepcopy(network)(video))


def test_training_steps_share_nothing_but_weights():
    network = MoViNet('a0', causal=True, drop_path_rate=0.0)
    video = torch.rand(2, 3, 4, 32, 32)
    first = network(video)
    first.sum().backward()
    network(torch.rand(3, 3, 2, 40, 40)).sum().backward()
    assert torch.equal(network(video), first)


def test_a_state_of_other_videos_is_refused():
    network = MoViNet('a0', causal=True).eval()
    _, state = network.stream(torch.rand(2, 3, 2, 32, 32))
    for other in (torch.rand(1, 3, 2, 32, 32), torch.rand(2, 3, 2, 70, 32)):
        with pytest.raises(ValueError, match='state=None'):
            network.stream(other, state)


def test_streaming_needs_the_causal_form():
    with pytest.raises(RuntimeError, match='causal=True'):
        MoViNet('a0').stream(torch.rand(1, 3, 2, 32, 32))


def test_positional_encoding():
    encoding = positional_encoding(5, 2, torch.zeros(1, 8, 2, 1, 1))
    expected = [
        function(torch.tensor(6.0) / 10000 ** (2 * k / 8))
        for function in (torch.sin, torch.cos)
        for k in range(4)
    ]
    assert torch.allclose(encoding[0, :, 1, 0, 0], torch.stack(expected))


@torch.no_grad()
def test_half_precision():
    network = MoViNet('a0', causal=True, pos_encoding=True).eval()
    video = torch.rand(1, 3, 4, 40, 40)
    with torch.autocast('cpu', torch.bfloat16):
        whole = network(video)
        _, state = network.stream(video[:, :, :2])
        rest, state = network.stream(video[:, :, 2:], state)
    assert whole.isfinite().all()
    assert torch.allclose(rest.float(), whole[:, :, 2:].float(), atol=0.05)
    assert state[0][0]['sum'].dtype == torch.float32


# Training


def test_official_initialisation():
    network = MoViNet('a0')
    for start in ('constructed', 'init_weights'):
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv3d):
                weight = module.weight.detach()
                if weight.numel() > 5000:
                    std = (2 / weight[0].numel()) ** 0.5
                    assert float(weight.std()) == pytest.approx(std, rel=0.05)
                    assert weight.abs().max() <= 2 * std / 0.879
                if module.bias is not None:
                    assert not module.bias.any(), (start, name)
            elif isinstance(module, nn.BatchNorm3d):
                assert (module.eps, module.momentum) == (1e-3, 0.01)
                assert (module.weight == 1).all()
                assert not module.bias.any()
            elif isinstance(module, Bottleneck):
                assert module.alpha == 0
        with torch.no_grad():
            for weight in network.parameters():
                weight.fill_(3)
        network.init_weights()


def test_a_new_network_is_its_skips():
    network = MoViNet('a0', drop_path_rate=0.0).eval()
    video = torch.rand(1, 3, 2, 32, 32)
    before = network(video)
    before.sum().backward()
    for module in network.modules():
        if isinstance(module, Bottleneck):
            assert module.alpha.grad != 0
            assert not module.depthwise[0].conv.weight.grad.any()
            nn.init.constant_(module.depthwise[0].conv.weight, 9)
            nn.init.constant_(module.project.conv.weight, 9)
    assert torch.equal(network(video), before)


def test_stochastic_depth_grows_with_depth():
    network = MoViNet('a0')
    rates = [layer.drop_path.drop_prob for s in network.stages for layer in s]
    assert rates == pytest.approx([0.2 * i / 15 for i in range(1, 16)])


def test_stochastic_depth_drops_whole_samples():
    layer = fill(Bottleneck(4, 4, 8, (3, 3), 1, NORM, drop_path=0.25))
    x = torch.rand(64, 4, 2, 5, 5).double()
    branch = layer(x) - x
    layer.drop_path.train()
    ratio = ((layer(x) - x) / branch).flatten(1)
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio), atol=1e-6)
    kept = ratio[:, 0] > 0.5
    assert torch.allclose(ratio[kept], torch.tensor(4 / 3).double())
    assert torch.allclose(ratio[~kept], torch.tensor(0.0).double())
    assert 0 < kept.sum() < 64


def recognizer(**backbone):
    model = dict(
        type='Recognizer3D',
        backbone=dict(type='MoViNet', arch='a0', **backbone),
        cls_head=dict(
            type='MoViNetHead',
            num_classes=7,
            in_channels=480,
            dropout_ratio=0.2,
            average_clips='prob',
        ),
        data_preprocessor=dict(
            type='ActionDataPreprocessor',
            mean=[0.0, 0.0, 0.0],
            std=[255.0, 255.0, 255.0],
            format_shape='NCTHW',
        ),
    )
    return build_recognizer(load_config(dict(cfg=model), 'model'), 'model')


@pytest.mark.parametrize('form', [{}, dict(causal=True)])
def test_stock_recognizer_trains_and_tests(form):
    model = recognizer(**form)
    model.init_weights()
    samples = [ActionDataSample().set_gt_label(label) for label in (1, 5)]
    clips = [
        torch.randint(0, 256, (2, 3, 4, 40, 36), dtype=torch.uint8)
        for _ in samples
    ]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        data = model.data_preprocessor(
            dict(inputs=[c[:1] for c in clips], data_samples=samples), True
        )
        loss = model.train()(**data, mode='loss')['loss_cls']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # The first step frees the ReZero scalars, so now every weight learns.
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all(), name
    assert loss.isfinite()
    with torch.no_grad():
        predicted = model.eval().test_step(
            dict(inputs=clips, data_samples=samples)
        )
    for sample in predicted:
        assert sample.pred_score.shape == (7,)
        assert float(sample.pred_score.sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    'module, channels',
    [(None, 480), ('backbone.stages.4', 104), ('backbone.conv7', 480)],
)
def test_maps_can_be_tapped(module, channels):
    x = torch.rand(2, 1, 3, 4, 64, 64)
    tap = FeatureTap(recognizer(), x, module)
    assert tap.shapes['map'] == (channels, 4, 2, 2)
    assert tap.embedding_width == 480


def test_synchronised_batch_norm_keeps_the_official_constants():
    norm = MoViNet('a0', norm_cfg=dict(type='SyncBN')).stem.norm
    assert isinstance(norm, nn.SyncBatchNorm)
    assert (norm.eps, norm.momentum) == (1e-3, 0.01)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(arch='a6'), "arch='a6'.*'a5'"),
        (dict(conv_type='2d'), "conv_type='2d'.*'2plus1d'"),
        (dict(padding='valid'), "padding='valid'.*'symmetric'"),
        (dict(pos_encoding=True), 'causal=True'),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        MoViNet(**options)


def test_tables_are_whole():
    for arch in ARCHS.values():
        assert len(arch.stages) == 5
        for stage in arch.stages:
            assert len(stage.expanded) == len(stage.kernels)
