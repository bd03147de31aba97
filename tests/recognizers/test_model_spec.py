import pytest
import torch
from mmengine.config import ConfigDict
from tiny_models import NUM_CLASSES, tiny_tsn, tiny_x3d

from dtkd_mmaction.recognizers.model_spec import (
    build_recognizer,
    check_spec,
    forget_pretraining,
    load_config,
    load_weights,
    set_num_classes,
    stock_clip,
)

X3D_S = 'mmaction::recognition/x3d/x3d_s_13x6x1_facebook-kinetics400-rgb.py'
MVIT_S = (
    'mmaction::recognition/mvit/'
    'mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb.py'
)
TPN = (
    'mmaction::recognition/tpn/'
    'tpn-slowonly_imagenet-pretrained-r50_8xb8-8x8x1-150e_kinetics400-rgb.py'
)
KEY = 'model.vit_teacher'


def build(cfg=None):
    return build_recognizer(load_config(dict(cfg=cfg or tiny_x3d()), KEY), KEY)


@pytest.mark.parametrize('spec', ['x3d.py', dict(checkpoint=None)])
def test_what_is_no_spec(spec):
    with pytest.raises(TypeError, match=r"model\.vit_teacher.*'cfg'"):
        check_spec(spec, KEY)


def test_unknown_key_lists_the_known():
    with pytest.raises(TypeError, match=r"\['ckpt'\].*'checkpoint'"):
        check_spec(dict(cfg=X3D_S, ckpt='a.pth'), KEY)


def test_missing_config_names_the_key():
    with pytest.raises(OSError, match=r"model\.vit_teacher\.cfg='no\.py'"):
        load_config(dict(cfg='no.py'), KEY)


@pytest.mark.parametrize(
    'options',
    [
        {'model.cls_head.num_classes': 7},
        {'cls_head.num_classes': 7},
        {'model': dict(cls_head=dict(num_classes=7))},
        {'cls_head': dict(num_classes=7)},
    ],
)
@pytest.mark.parametrize('cfg', [X3D_S, tiny_x3d()])
def test_cfg_options_reach_stock_and_inline_models(cfg, options):
    config = load_config(dict(cfg=cfg, cfg_options=options), KEY)
    assert config.model.cls_head.num_classes == 7
    assert config.model.type == 'Recognizer3D'


def test_an_inline_model_is_not_changed():
    cfg = tiny_x3d()
    load_config(dict(cfg=cfg, cfg_options={'cls_head.num_classes': 7}), KEY)
    assert cfg['cls_head']['num_classes'] == NUM_CLASSES


def test_options_keep_their_delete_key():
    """A spec that is loaded twice must give the same model."""
    head = dict(_delete_=True, type='VerbNounHead', num_classes=(3, 4))
    spec = ConfigDict(cfg=X3D_S, cfg_options=dict(cls_head=head))
    models = [load_config(spec, KEY).model for _ in range(2)]
    assert models[0] == models[1]
    assert spec.cfg_options.cls_head == head


def test_building_leaves_the_users_dict_as_it_is():
    pytest.importorskip('timm')
    cfg = dict(tiny_tsn(), backbone=dict(type='timm.resnet18'))
    for _ in range(2):  # timm's type is popped while it is built
        build_recognizer(load_config(dict(cfg=cfg), KEY), KEY)
    assert cfg['backbone'] == dict(type='timm.resnet18')


def test_num_classes_reaches_head_and_blending():
    model = load_config(dict(cfg=MVIT_S), KEY).model
    set_num_classes(model, 51)
    assert model.cls_head.num_classes == 51
    assert [
        a.num_classes for a in model.data_preprocessor.blending.augments
    ] == [51, 51]


def test_num_classes_reaches_every_head():
    model = load_config(dict(cfg=TPN), KEY).model
    set_num_classes(model, 700)
    assert model.neck.aux_head_cfg.out_channels == 700
    model = dict(cls_head=dict(image_classes=1000, video_classes=400))
    set_num_classes(model, 700)
    assert model['cls_head'] == dict(image_classes=1000, video_classes=700)


def test_nothing_is_downloaded_that_a_checkpoint_replaces():
    model = dict(
        backbone=dict(
            pretrained='https://x/y.pth',
            clip_pretrained=True,
            init_cfg=dict(type='Pretrained', checkpoint='https://x/z.pth'),
        )
    )
    forget_pretraining(model)
    assert model == dict(backbone=dict(pretrained=None, clip_pretrained=False))


@pytest.mark.parametrize(
    'backbone, neutral',
    [
        (dict(type='UniFormerV2'), dict(clip_pretrained=False)),
        (dict(type='ResNetTSM', depth=18), dict(pretrained2d=False)),
        # its base class's option
        (dict(type='ResNetTIN', depth=18), dict(pretrained2d=False)),
        (
            dict(type='MViT', pretrained_type='maskfeat'),
            dict(pretrained_type=None),
        ),
        (dict(type='timm.resnet18', pretrained=True), dict(pretrained=None)),
        (dict(type='X3D'), dict()),
    ],
    ids=lambda value: value.get('type'),
)
def test_nor_what_a_class_downloads_by_itself(backbone, neutral):
    head = dict(
        type='UniFormerHead',
        init_cfg=dict(type='Pretrained', checkpoint='https://x/z.pth'),
    )
    model = dict(type='Recognizer3D', backbone=backbone, cls_head=head)
    expected = dict(backbone, **neutral)
    forget_pretraining(model)
    assert model['backbone'] == expected
    assert model['cls_head'] == dict(type='UniFormerHead')


@pytest.mark.parametrize(
    'cfg, clip',
    [
        (MVIT_S, dict(frames=16, size=224)),
        (X3D_S, dict(frames=13, size=182)),
        (
            'mmaction::recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_'
            'kinetics400-rgb.py',
            dict(frames=3, size=224),
        ),
        (tiny_x3d(), dict(frames=16, size=224)),
    ],
)
def test_stock_clip_is_that_of_the_pipeline(cfg, clip):
    assert stock_clip(load_config(dict(cfg=cfg), KEY)) == clip


def test_only_recognizers():
    config = load_config(dict(cfg=dict(type='ActionDataPreprocessor')), KEY)
    with pytest.raises(TypeError, match=r'ActionDataPreprocessor.*Recogn'):
        build_recognizer(config, KEY)


class TestLoadWeights:
    @pytest.mark.parametrize('prefix', ['', 'module.'])
    @pytest.mark.parametrize('wrapped', [True, False])
    def test_round_trip(self, tmp_path, prefix, wrapped):
        source, target = build(), build()
        state = {prefix + k: v for k, v in source.state_dict().items()}
        path = str(tmp_path / 'a.pth')
        torch.save(dict(state_dict=state) if wrapped else state, path)
        load_weights(target, path, KEY)
        for name, value in target.named_parameters():
            assert torch.equal(value, source.state_dict()[name])

    def test_one_match_of_a_pattern(self, tmp_path):
        model = build()
        torch.save(model.state_dict(), tmp_path / 'best_epoch_3.pth')
        load_weights(model, str(tmp_path / 'best_*.pth'), KEY)
        torch.save(model.state_dict(), tmp_path / 'best_epoch_4.pth')
        with pytest.raises(ValueError, match='best_epoch_3.*best_epoch_4'):
            load_weights(model, str(tmp_path / 'best_*.pth'), KEY)

    @pytest.mark.parametrize('name', ['no.pth', 'no_*.pth'])
    def test_missing(self, tmp_path, name):
        path = str(tmp_path / name)
        with pytest.raises(
            ValueError, match=r'model\.vit_teacher\.checkpoint=.*no'
        ):
            load_weights(build(), path, KEY)

    def test_truncated(self, tmp_path):
        model, path = build(), tmp_path / 'a.pth'
        torch.save(model.state_dict(), path)
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(
            ValueError, match=r'model\.vit_teacher\.checkpoint=.*a\.pth'
        ):
            load_weights(model, str(path), KEY)

    def test_no_match_reports_the_counts(self, tmp_path):
        torch.save(build(tiny_tsn()).state_dict(), tmp_path / 'a.pth')
        wanted = len(
            [
                name
                for name in build().state_dict()
                if not name.endswith('num_batches_tracked')
            ]
        )
        with pytest.raises(
            ValueError, match=f"0 of the model's {wanted} tensors"
        ):
            load_weights(build(), str(tmp_path / 'a.pth'), KEY)

    def test_a_distiller_is_told_apart(self, tmp_path):
        state = {f'student.{k}': v for k, v in build().state_dict().items()}
        torch.save(dict(state_dict=state), tmp_path / 'a.pth')
        with pytest.raises(ValueError, match='tools/export_student.py'):
            load_weights(build(), str(tmp_path / 'a.pth'), KEY)

    def test_other_classes_of_a_student_warn(self, tmp_path, logged):
        """A student may start from a checkpoint of another data set."""
        state = build().state_dict()
        state['cls_head.fc2.weight'] = torch.zeros(400, 2048)
        torch.save(state, tmp_path / 'a.pth')
        load_weights(build(), str(tmp_path / 'a.pth'), KEY)
        said = logged()
        assert 'WARNING' in said
        assert 'The head starts as initialised: cls_head.fc2.weight' in said

    def test_what_a_students_backbone_lacks_is_named(self, tmp_path, logged):
        state = build().state_dict()
        del state['backbone.conv1_s.conv.weight']
        torch.save(state, tmp_path / 'a.pth')
        load_weights(build(), str(tmp_path / 'a.pth'), KEY)
        said = logged()
        assert 'WARNING' in said
        assert (
            '1 tensors below the head start as initialised: '
            'backbone.conv1_s.conv.weight'
        ) in said

    def test_a_student_does_not_start_from_a_few_tensors(self, tmp_path):
        state = build().state_dict()
        names = [name for name in state if name.startswith('backbone.conv1')]
        few = {name: state[name] for name in names}
        torch.save(few, tmp_path / 'a.pth')
        with pytest.raises(ValueError, match='Most of the model is missing'):
            load_weights(build(), str(tmp_path / 'a.pth'), KEY)


class TestTeachersWeights:
    """A teacher's checkpoint matches wholly or not at all."""

    def load(self, tmp_path, state, cfg=None):
        torch.save(dict(state_dict=state), tmp_path / 'a.pth')
        model = build(cfg or tiny_x3d())
        load_weights(model, str(tmp_path / 'a.pth'), KEY, whole=True)
        return model

    def test_whole(self, tmp_path, logged):
        state = build().state_dict()
        model = self.load(tmp_path, state)
        for name, value in model.state_dict().items():
            assert torch.equal(value, state[name]), name
        assert 'WARNING' not in logged()

    def test_another_head(self, tmp_path):
        state = build().state_dict()
        state['cls_head.fc2.weight'] = torch.zeros(400, 2048)
        with pytest.raises(
            ValueError,
            match=r'model\.vit_teacher\.checkpoint=.*cls_head\.fc2\.weight is '
            r'\(400, 2048\) there and \(4, 2048\) here.*checkpoint=None',
        ):
            self.load(tmp_path, state)

    @pytest.mark.parametrize(
        'name',
        ['cls_head.fc2.bias', 'backbone.conv1_s.conv.weight']
        + ['backbone.conv5.bn.running_var'],
    )
    def test_one_tensor_that_is_missing(self, tmp_path, name):
        state = build().state_dict()
        del state[name]
        with pytest.raises(ValueError, match=name.replace('.', r'\.')):
            self.load(tmp_path, state)

    def test_a_deeper_model(self, tmp_path):
        """Every tensor of a ResNet-18 is in a ResNet-34, in its shape."""
        deeper = tiny_tsn()
        deeper['backbone']['depth'] = 34
        state = build(deeper).state_dict()
        shallow = build(tiny_tsn()).state_dict()
        assert all(state[n].shape == x.shape for n, x in shallow.items())
        with pytest.raises(ValueError, match=r'another architecture'):
            self.load(tmp_path, state, tiny_tsn())

    def test_another_architecture(self, tmp_path):
        with pytest.raises(ValueError, match='A teacher needs all'):
            self.load(tmp_path, build(tiny_tsn()).state_dict())

    def test_tables_that_the_model_computes_may_lack(self, tmp_path):
        model = build()
        model.backbone.register_buffer('index', torch.arange(3))
        state = build().state_dict()
        torch.save(state, tmp_path / 'a.pth')
        load_weights(model, str(tmp_path / 'a.pth'), KEY, whole=True)
        assert torch.equal(model.backbone.index, torch.arange(3))
