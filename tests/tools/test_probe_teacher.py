"""The probe on generated clips whose class is a colour, with random models."""

import os

import cv2
import numpy as np
import probe_teacher
import pytest
import torch
from mmaction.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from small_models import image_recognizer
from tiny_distillation import lively
from tiny_models import NUM_CLASSES, tiny_distiller, tiny_tsn, tiny_x3d

from dtkd_mmaction.recognizers.model_spec import build_recognizer

SIZE, FRAMES = 32, 4
COLOURS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40)]


def write_coloured_clips(folder, split, groups, clips):
    """Clips ``<class>_g<group>_c<clip>.mp4`` and their list."""
    rng = np.random.default_rng(len(split))
    lines = []
    for label, colour in enumerate(COLOURS):
        for group in range(groups):
            for clip in range(clips):
                name = f'{split}_{label}_g{group:02d}_c{clip:02d}.mp4'
                writer = cv2.VideoWriter(
                    str(folder / name),
                    cv2.VideoWriter_fourcc(*'mp4v'),
                    10,
                    (64, 48),
                )
                for _ in range(6):
                    noise = rng.integers(-40, 40, (48, 64, 3))
                    frame = np.clip(noise + colour, 0, 255)
                    writer.write(frame.astype(np.uint8))
                writer.release()
                lines.append(f'{name} {label}')
    (folder / f'{split}.txt').write_text('\n'.join(lines))


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp('clips')
    write_coloured_clips(folder, 'train', groups=3, clips=2)
    write_coloured_clips(folder, 'val', groups=1, clips=3)
    return folder


def pipeline(shape, random):
    return [
        dict(type='DecordInit'),
        dict(
            type='SampleFrames',
            clip_len=FRAMES,
            frame_interval=1,
            num_clips=1,
            test_mode=not random,
        ),
        dict(type='DecordDecode'),
        *(
            [dict(type='RandomResizedCrop', area_range=(0.6, 1.0))]
            if random
            else []
        ),
        dict(type='Resize', scale=(SIZE, SIZE), keep_ratio=False),
        dict(type='FormatShape', input_format=shape),
        dict(type='PackActionInputs'),
    ]


def write_config(folder, clips, model, **others):
    """A stage-one config as a file."""
    shape = model.get('data_preprocessor', {}).get('format_shape', 'NCTHW')
    dataset = dict(
        type='CheckedVideoDataset',
        ann_file=str(clips / 'train.txt'),
        data_prefix=dict(video=str(clips)),
        pipeline=pipeline(shape, random=True),
    )
    validation = dict(
        dataset,
        ann_file=str(clips / 'val.txt'),
        pipeline=pipeline(shape, random=False),
        test_mode=True,
    )
    config = dict(
        custom_imports=dict(imports=['dtkd_mmaction']),
        model=model,
        train_dataloader=dict(
            dataset=dict(type='KeyedViewDataset', dataset=dataset)
        ),
        val_dataloader=dict(dataset=validation),
        **others,
    )
    path = folder / 'config.py'
    Config(config).dump(path)
    return str(path)


def save_lively(path, model):
    """A checkpoint of random weights whose features differ between clips."""
    torch.save(dict(state_dict=lively(model, seed=0).state_dict()), path)
    return str(path)


def probe(config, out, *options):
    probe_teacher.main(
        [config, '--out', str(out), '--workers', '0', '--views', '1', *options]
    )
    return torch.load(out, weights_only=True)


def predictions(config, checkpoint):
    """Scores of the stock recognizer for the validation list, and labels."""
    config = Config.fromfile(config)
    recognizer = build_recognizer(config, 'model').eval()
    recognizer.load_state_dict(checkpoint['state_dict'], strict=True)
    dataset = DATASETS.build(config.val_dataloader.dataset)
    data = pseudo_collate([dataset[i] for i in range(len(dataset))])
    with torch.no_grad():
        samples = recognizer.val_step(data)
    scores = torch.stack([sample.pred_score for sample in samples])
    return scores, torch.cat([sample.gt_label for sample in samples])


@pytest.mark.parametrize('model', [tiny_tsn, tiny_x3d])
def test_fits_a_stock_recognizer(model, clips, tmp_path, capsys):
    weights = save_lively(tmp_path / 'weights.pth', model())
    config = write_config(tmp_path, clips, model(), load_from=weights)
    out = tmp_path / 'out.pth'
    checkpoint = probe(config, out, '--group-by', r'_g(\d+)_')

    scores, labels = predictions(config, checkpoint)
    found = checkpoint['meta']['probe']
    accuracy = (scores.argmax(dim=1) == labels).float().mean().item()
    assert accuracy == pytest.approx(found['validation_accuracy'])
    assert accuracy > 0.9
    log_loss = -scores.log()[torch.arange(len(labels)), labels].mean()
    assert float(log_loss) == pytest.approx(
        found['validation_log_loss'], rel=1e-3
    )
    assert (found['training_clips'], found['validation_clips']) == (24, 12)
    assert (found['groups'], found['chance']) == (3, 0.25)

    before = torch.load(weights)['state_dict']
    changed = {
        name
        for name, value in checkpoint['state_dict'].items()
        if not torch.equal(value, before[name])
    }
    layer = 'fc_cls' if model is tiny_tsn else 'fc2'
    assert changed <= {f'cls_head.{layer}.weight', f'cls_head.{layer}.bias'}
    printed = capsys.readouterr().out
    assert f'validation accuracy {accuracy:.1%}' in printed
    assert 'always the most frequent class: 25.0%' in printed


@pytest.mark.parametrize(
    'backbone, channels',
    [
        (
            dict(
                type='timm.vit_small_patch14_dinov2',
                img_size=70,
                dynamic_img_size=True,
                embed_dim=24,
                depth=2,
                num_heads=2,
            ),
            24,
        ),
        (dict(type='timm.tf_efficientnet_lite0'), 1280),
        (dict(type='torchvision.squeezenet1_1'), 512),
        (dict(type='torchvision.resnet18'), 512),
        (dict(type='mmpretrain.ResNet', depth=18), 512),
        (
            dict(
                type='mmpretrain.MobileNetV2',
                widen_factor=0.25,
            ),
            1280,
        ),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else '',
)
def test_backbones_of_other_packages(backbone, channels, clips, tmp_path):
    model = image_recognizer(backbone, channels, NUM_CLASSES)
    size = 28 if 'patch14' in backbone['type'] else SIZE
    config = write_config(tmp_path, clips, model)
    options = ['--cfg-options']
    for path in (
        'train_dataloader.dataset.dataset.pipeline.4.scale',
        'val_dataloader.dataset.pipeline.3.scale',
    ):
        options.append(f'{path}=({size},{size})')
    checkpoint = probe(config, tmp_path / 'out.pth', *options)
    assert checkpoint['meta']['probe']['validation_accuracy'] > 0.25


def write_list(path, clips, change):
    lines = (clips / 'train.txt').read_text().splitlines()
    path.write_text('\n'.join(change(line.split()) for line in lines))
    return f'train_dataloader.dataset.dataset.ann_file={path}'


def test_clips_without_a_label_are_left_out(clips, tmp_path):
    """The result is that of a list without them, except for the views."""
    weights = save_lively(tmp_path / 'weights.pth', tiny_tsn())
    config = write_config(tmp_path, clips, tiny_tsn(), load_from=weights)
    option = write_list(
        tmp_path / 'half.txt',
        clips,
        lambda x: f'{x[0]} {x[1] if "c00" in x[0] else -1}',
    )
    checkpoint = probe(config, tmp_path / 'out.pth', '--cfg-options', option)
    assert checkpoint['meta']['probe']['training_clips'] == 12
    scores, labels = predictions(config, checkpoint)
    assert (scores.argmax(dim=1) == labels).float().mean() > 0.9


def test_continues_after_a_kill(clips, tmp_path, monkeypatch):
    weights = save_lively(tmp_path / 'weights.pth', tiny_tsn())
    config = write_config(tmp_path, clips, tiny_tsn(), load_from=weights)
    options = ['--batch-size', '4']
    monkeypatch.setattr('probing.embeddings.SHARD', 8)
    embed = probe_teacher.ProbedModel.embed
    calls = []

    def killed(self, data):
        if len(calls) == 5:
            raise KeyboardInterrupt
        calls.append(len(data['inputs']))
        return embed(self, data)

    expected = probe(config, tmp_path / 'whole.pth', *options)
    monkeypatch.setattr(probe_teacher.ProbedModel, 'embed', killed)
    out = tmp_path / 'out.pth'
    with pytest.raises(KeyboardInterrupt):
        probe(config, out, *options)
    assert not out.exists()
    # 20 clips were embedded, the last four of them in a file begun
    monkeypatch.setattr(
        probe_teacher.ProbedModel,
        'embed',
        lambda self, data: (
            calls.append(len(data['inputs'])) or embed(self, data)
        ),
    )
    resumed = probe(config, out, *options)
    assert sum(calls) == 24 + 24 + 12 + 4
    for name, value in expected['state_dict'].items():
        assert torch.equal(resumed['state_dict'][name], value), name
    probe(config, out, *options)
    assert sum(calls) == 24 + 24 + 12 + 4

    # a damaged file is computed again
    folder = tmp_path / 'out.embeddings'
    path = next(folder.rglob('*.npz'))
    path.write_bytes(path.read_bytes()[:-100])
    probe(config, out, *options)
    assert 24 + 24 + 12 + 4 < sum(calls) <= 24 + 24 + 12 + 4 + 8

    # other weights have other embeddings
    torch.save(
        dict(state_dict=lively(tiny_tsn(), seed=1).state_dict()), weights
    )
    probe(config, out, *options)
    assert sum(calls) > 2 * (24 + 24 + 12)


def test_an_unreadable_clip_is_skipped(clips, tmp_path):
    (tmp_path / 'broken.mp4').write_bytes(b'no clip')
    weights = save_lively(tmp_path / 'weights.pth', tiny_tsn())
    config = write_config(tmp_path, clips, tiny_tsn(), load_from=weights)
    broken = os.path.relpath(tmp_path / 'broken.mp4', clips)
    option = write_list(
        tmp_path / 'list.txt',
        clips,
        lambda x: f'{broken if "g01_c01" in x[0] else x[0]} {x[1]}',
    )
    checkpoint = probe(config, tmp_path / 'out.pth', '--cfg-options', option)
    assert checkpoint['meta']['probe']['training_clips'] == 20


@pytest.mark.parametrize('teacher', ['vit', 'cnn'])
def test_teacher_of_a_distillation_config(teacher, clips, tmp_path):
    """It sees its own view of the shared clips; classes are the student's."""
    model = tiny_distiller()
    for name in ('vit', 'cnn'):
        spec = model[f'{name}_teacher']
        spec['checkpoint'] = save_lively(tmp_path / f'{name}.pth', spec['cfg'])
        spec['cfg']['cls_head']['num_classes'] = 7
    config = write_config(tmp_path, clips, model)
    sizes = set()
    read = probe_teacher.ProbedModel.embed

    def watched(self, data):
        handle = self.recognizer.backbone.register_forward_pre_hook(
            lambda _, args: sizes.add(tuple(args[0].shape[2:]))
        )
        try:
            return read(self, data)
        finally:
            handle.remove()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe_teacher.ProbedModel, 'embed', watched)
        checkpoint = probe(config, tmp_path / 'o.pth', '--teacher', teacher)
    view = model[f'{teacher}_teacher']['view']
    assert sizes == {(view['frames'], view['size'], view['size'])}
    rows = {len(v) for n, v in checkpoint['state_dict'].items() if 'bias' in n}
    assert NUM_CLASSES in rows and 7 not in rows
    assert checkpoint['meta']['probe']['validation_accuracy'] > 0.5


def test_a_teacher_must_be_named(clips, tmp_path):
    config = write_config(tmp_path, clips, tiny_distiller())
    with pytest.raises(SystemExit, match=r"choose one of .*'cnn', 'vit'"):
        probe(config, tmp_path / 'out.pth')


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda state: state.pop('backbone.conv1.conv.weight'), 'lacks 1 of'),
        (
            lambda state: state.update(
                {'backbone.conv1.conv.weight': torch.zeros(1)}
            ),
            'lacks 1 of',
        ),
        (lambda state: state.clear(), 'lacks 100 of 100'),
    ],
)
def test_a_checkpoint_of_another_backbone(change, message, clips, tmp_path):
    state = lively(tiny_tsn(), seed=0).state_dict()
    change(state)
    torch.save(dict(state_dict=state), tmp_path / 'weights.pth')
    config = write_config(
        tmp_path, clips, tiny_tsn(), load_from=str(tmp_path / 'weights.pth')
    )
    with pytest.raises(SystemExit, match=message):
        probe(config, tmp_path / 'out.pth')


def test_backbone_weights_without_prefix(clips, tmp_path):
    """Checkpoints of timm and torchvision; their own classifier is unused."""
    state = {
        name[len('backbone.') :]: value
        for name, value in lively(tiny_tsn(), 0).state_dict().items()
        if name.startswith('backbone.')
    }
    state['fc.weight'] = torch.zeros(1000, 512)
    torch.save(state, tmp_path / 'weights.pth')
    config = write_config(tmp_path, clips, tiny_tsn())
    checkpoint = probe(
        config,
        tmp_path / 'out.pth',
        '--weights',
        str(tmp_path / 'weights.pth'),
    )
    name = 'backbone.layer1.0.conv1.conv.weight'
    assert torch.equal(checkpoint['state_dict'][name], state[name[9:]])


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda x: f'{x[0]} 4', r'the label 4 .*num_classes=4'),
        (lambda x: f'{x[0]} -1', 'no clip with a label'),
    ],
)
def test_wrong_labels(change, message, clips, tmp_path):
    config = write_config(tmp_path, clips, tiny_tsn())
    option = write_list(tmp_path / 'list.txt', clips, change)
    with pytest.raises(SystemExit, match=message):
        probe(config, tmp_path / 'out.pth', '--cfg-options', option)


def test_warns_of_names_that_look_grouped():
    names = [
        f'{k}_g{g}_c{clip}' for k in 'ab' for g in range(3) for clip in '12'
    ]
    labels = [int(name[0] == 'b') for name in names]
    split = probe_teacher.Split(None, True, {}, names, labels)
    with pytest.warns(UserWarning, match='--group-by'):
        groups = probe_teacher.groups_of_clips(split, range(12), 2, None)
    assert groups == names
