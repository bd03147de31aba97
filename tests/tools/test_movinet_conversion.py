"""The port's weights are large: tensors of its layout are made here."""

import runpy
import sys
from collections import Counter

import pytest
import torch
from mmengine.runner.checkpoint import load_checkpoint

import dtkd_mmaction.heads  # noqa: F401
from dtkd_mmaction.backbones.movinet_archs import ARCHS
from dtkd_mmaction.backbones.movinet_conversion import (
    PortLayout,
    from_pytorch_port,
)
from dtkd_mmaction.recognizers.model_spec import build_recognizer, load_config

CLASSES = 6


def recognizer(layout):
    return build_recognizer(load_config(dict(cfg=layout.model()), 'm'), 'm')


def port_shapes(arch, causal, conv_type):
    """Name -> shape of every tensor of the port, written from its layout."""
    shapes = {}
    plain = conv_type == '3d'
    conv = 'conv3d' if plain else 'conv2d'

    def norm(name, channels):
        for part in ('weight', 'bias', 'running_mean', 'running_var'):
            shapes[f'{name}.norm.{part}'] = (channels,)
        shapes[f'{name}.norm.num_batches_tracked'] = ()

    def kernel(name, out, inner, *size):
        shapes[f'{name}.{conv}.weight'] = (out, inner, *size)

    def pointwise(name, out, inner, bias=False):
        kernel(f'{name}.conv_1', out, inner, *((1, 1, 1) if plain else (1, 1)))
        if bias:
            shapes[f'{name}.conv_1.{conv}.bias'] = (out,)
        else:
            norm(f'{name}.conv_1', out)

    stem, projection, stages = ARCHS[arch]
    kernel('conv1.conv_1', stem, 3, *((1, 3, 3) if plain else (3, 3)))
    norm('conv1.conv_1', stem)
    width = stem
    for i, (base, stride, expanded, kernels) in enumerate(stages):
        for j, (e, (kt, k)) in enumerate(zip(expanded, kernels)):
            block = f'blocks.b{i}_l{j}'
            first_stride = stride if j == 0 else 1
            pointwise(f'{block}.expand', e, width)
            size = (kt, k, k) if plain else (k, k)
            kernel(f'{block}.deep.conv_1', e, 1, *size)
            norm(f'{block}.deep.conv_1', e)
            if kt > 1 and not plain:
                kernel(f'{block}.deep.conv_2', e, 1, kt, 1)
                norm(f'{block}.deep.conv_2', e)
            inputs = 2 * e if causal else e
            hidden = max(8, int(inputs / 4 + 4) // 8 * 8)
            hidden += 8 if hidden < 0.9 * inputs / 4 else 0
            pointwise(f'{block}.se.fc1', hidden, inputs, bias=True)
            pointwise(f'{block}.se.fc2', e, hidden, bias=True)
            pointwise(f'{block}.project', base, e)
            if first_stride == 2:
                pointwise(f'{block}.res.1', base, width)
            elif width != base:
                pointwise(f'{block}.res.0', base, width)
            shapes[f'{block}.alpha'] = ()
            width = base
    pointwise('conv7', projection, width)
    pointwise('classifier.0', 2048, projection, bias=True)
    pointwise('classifier.3', CLASSES, 2048, bias=True)
    return shapes


def port_weights(arch, causal, conv_type):
    """Every tensor its own numbers."""
    return {
        name: torch.tensor(7)
        if name.endswith('tracked')
        else torch.rand(shape)
        for name, shape in port_shapes(arch, causal, conv_type).items()
    }


def numbers(tensors):
    return Counter(value.numpy().tobytes() for value in tensors.values())


FORMS = [
    ('a0', False, '3d'),
    ('a0', True, '2plus1d'),
    ('a0', True, '3d'),
    ('a3', False, '3d'),
    ('a3', True, '2plus1d'),
]


@pytest.mark.parametrize('form', FORMS)
def test_every_number_arrives(form):
    weights = port_weights(*form)
    assert PortLayout.of(weights) == (*form, CLASSES)
    converted = from_pytorch_port(weights)
    model = recognizer(PortLayout.of(weights))
    model.load_state_dict(converted, strict=True)
    # And back: the port's tensors, each once, its numbers in their order.
    assert numbers(model.state_dict()) == numbers(weights)


def test_tensors_keep_their_role():
    weights = port_weights('a0', True, '2plus1d')
    converted = from_pytorch_port(weights)
    for ours, theirs in (
        ('backbone.stem.conv.weight', 'conv1.conv_1.conv2d.weight'),
        (
            'backbone.stages.1.2.expand.norm.running_var',
            'blocks.b1_l2.expand.conv_1.norm.running_var',
        ),
        (
            'backbone.stages.1.2.depthwise.0.conv.weight',
            'blocks.b1_l2.deep.conv_1.conv2d.weight',
        ),
        (
            'backbone.stages.1.2.depthwise.1.conv.weight',
            'blocks.b1_l2.deep.conv_2.conv2d.weight',
        ),
        (
            'backbone.stages.1.2.se.reduce.bias',
            'blocks.b1_l2.se.fc1.conv_1.conv2d.bias',
        ),
        (
            'backbone.stages.1.2.se.expand.weight',
            'blocks.b1_l2.se.fc2.conv_1.conv2d.weight',
        ),
        (
            'backbone.stages.4.0.skip.1.norm.bias',
            'blocks.b4_l0.res.1.conv_1.norm.bias',
        ),
        ('backbone.stages.4.0.alpha', 'blocks.b4_l0.alpha'),
        ('backbone.conv7.norm.weight', 'conv7.conv_1.norm.weight'),
        ('cls_head.fc1.bias', 'classifier.0.conv_1.conv2d.bias'),
        ('cls_head.fc2.weight', 'classifier.3.conv_1.conv2d.weight'),
    ):
        assert torch.equal(
            converted[ours].flatten(), weights[theirs].flatten()
        )


def test_what_does_not_fit_is_named():
    weights = port_weights('a0', False, '3d')
    missing = dict(weights)
    missing.pop('blocks.b2_l1.alpha')
    with pytest.raises(ValueError, match='b2_l1.alpha is missing'):
        from_pytorch_port(missing)
    with pytest.raises(ValueError, match='extra is unknown'):
        from_pytorch_port(dict(weights, extra=torch.ones(1)))
    wrong = dict(weights, **{'conv1.conv_1.conv3d.weight': torch.ones(3)})
    with pytest.raises(ValueError, match=r'\(8, 3, 1, 3, 3\) is needed'):
        from_pytorch_port(wrong)
    with pytest.raises(ValueError, match='no MoViNet weights'):
        from_pytorch_port({'backbone.conv1.weight': torch.ones(1)})


def test_the_tool_writes_a_checkpoint(tmp_path, monkeypatch, capsys):
    weights = port_weights('a0', False, '3d')
    weights.pop('conv7.conv_1.norm.num_batches_tracked')
    source, out = tmp_path / 'port.pth', tmp_path / 'movinet.pth'
    torch.save(weights, source)
    tool = 'tools/convert/movinet_from_pytorch_port.py'
    monkeypatch.setattr(sys, 'argv', [tool, str(source), str(out)])
    root = __file__.rsplit('/tests/', 1)[0]
    runpy.run_path(f'{root}/{tool}', run_name='__main__')
    assert "arch='a0'" in capsys.readouterr().out
    model = recognizer(PortLayout('a0', False, '3d', CLASSES))
    load_checkpoint(model, str(out), map_location='cpu', strict=True)
    assert torch.equal(
        model.cls_head.fc2.bias, weights['classifier.3.conv_1.conv3d.bias']
    )
