"""Each shape that a backbone gives, against the same map by another way."""

import math

import pytest
import torch
import torch.nn as nn
from einops import rearrange
from tiny_models import (
    FRAMES,
    NUM_CLASSES,
    SIZE,
    tiny_mvit,
    tiny_tsn,
    tiny_x3d,
)

from dtkd_mmaction.distillers import FeatureTap
from dtkd_mmaction.recognizers.grid_layout import (
    ClipShape,
    PatchEmbedding,
    as_embedding,
    as_grid,
    same_aspect,
)
from dtkd_mmaction.recognizers.model_spec import build_recognizer, load_config

BATCH = 3
PATCH = 8


def recognizer_3d(backbone: dict, head: str, width: int) -> dict:
    return dict(
        type='Recognizer3D',
        backbone=backbone,
        cls_head=dict(type=head, num_classes=NUM_CLASSES, in_channels=width),
    )


def tiny_slowfast() -> dict:
    pathway = dict(type='resnet3d', depth=18, pretrained=None)
    backbone = dict(
        type='ResNet3dSlowFast',
        pretrained=None,
        resample_rate=2,
        speed_ratio=2,
        channel_ratio=4,
        slow_pathway=dict(pathway, lateral=True, base_channels=16),
        fast_pathway=dict(pathway, lateral=False, base_channels=4),
    )
    return recognizer_3d(backbone, 'SlowFastHead', (16 + 4) * 8)


def tiny_video_mae(**options) -> dict:
    backbone = dict(
        type='VisionTransformer',
        img_size=SIZE,
        patch_size=PATCH,
        num_frames=FRAMES,
        embed_dims=24,
        depth=2,
        num_heads=2,
        **options,
    )
    return recognizer_3d(backbone, 'TimeSformerHead', 24)


def tiny_timesformer(attention: str) -> dict:
    backbone = dict(
        type='TimeSformer',
        img_size=SIZE,
        patch_size=PATCH,
        num_frames=FRAMES,
        embed_dims=24,
        num_heads=2,
        num_transformer_layers=2,
        attention_type=attention,
    )
    return recognizer_3d(backbone, 'TimeSformerHead', 24)


def tiny_uniformer_v2(**options) -> dict:
    backbone = dict(
        type='UniFormerV2',
        input_resolution=SIZE,
        patch_size=PATCH,
        width=24,
        layers=2,
        heads=2,
        t_size=FRAMES,
        return_list=[0, 1],
        n_layers=2,
        n_dim=24,
        n_head=2,
        mlp_dropout=[0.0, 0.0],
        clip_pretrained=False,
        **options,
    )
    return recognizer_3d(backbone, 'TimeSformerHead', 24)


def tiny_swin() -> dict:
    backbone = dict(
        type='SwinTransformer3D',
        arch=dict(embed_dims=12, depths=[1, 1], num_heads=[1, 2]),
        pretrained2d=False,
        patch_size=(2, 4, 4),
        window_size=(2, 2, 2),
        out_indices=(1,),
    )
    return recognizer_3d(backbone, 'I3DHead', 24)


def build(cfg: dict) -> nn.Module:
    torch.manual_seed(0)
    return build_recognizer(load_config(dict(cfg=cfg), 'm'), 'm').eval()


def clips_for(recognizer: nn.Module, size: int = SIZE) -> torch.Tensor:
    """Different clips, in the form that the recognizer takes."""
    if type(recognizer).__name__ == 'Recognizer2D':
        return torch.randn(BATCH, FRAMES, 3, size, size)
    return torch.randn(BATCH, 1, 3, FRAMES, size, size)


def tapped(cfg: dict, module: str = None, size: int = SIZE):
    """Recognizer, clips and what was recorded of them."""
    recognizer = build(cfg)
    clips = clips_for(recognizer, size)
    # A batch of another size than the one to come.
    tap = FeatureTap(recognizer, clips[:1], module)
    with tap.record(clips) as recording, torch.no_grad():
        recognizer.extract_feat(clips, stage='head')
    assert tap.shapes['map'] == tuple(recording.map.shape[1:])
    assert tap.embedding_width == recording.embedding.shape[1]
    assert tap.num_classes == recording.logits.shape[1] == NUM_CLASSES
    return recognizer, clips, recording


def output_of(recognizer: nn.Module, module: str, clips: torch.Tensor):
    """Returns the output of a module, recorded with a separate hook."""
    outputs = []
    handle = recognizer.get_submodule(module).register_forward_hook(
        lambda _, __, output: outputs.append(output)
    )
    with torch.no_grad():
        recognizer.extract_feat(clips, stage='head')
    handle.remove()
    return outputs[-1]


class TestDefaultTap:
    @pytest.mark.parametrize('cfg', [tiny_x3d(), tiny_swin()])
    def test_map(self, cfg):
        recognizer, clips, recording = tapped(cfg)
        assert recording.tap.module_name == 'backbone'
        expected = recognizer.backbone(clips.flatten(0, 1))
        assert torch.allclose(recording.map, expected, atol=1e-5)

    def test_mvit_gives_its_patches(self):
        recognizer, clips, recording = tapped(tiny_mvit())
        patches, class_token = recognizer.backbone(clips.flatten(0, 1))[-1]
        assert torch.allclose(recording.map, patches, atol=1e-5)
        assert torch.allclose(recording.embedding, class_token, atol=1e-5)

    def test_slowfast_gives_its_slow_path(self):
        recognizer, clips, recording = tapped(tiny_slowfast())
        slow, fast = recognizer.backbone(clips.flatten(0, 1))
        assert slow.shape[1] > fast.shape[1] and slow.shape != fast.shape
        assert torch.allclose(recording.map, slow, atol=1e-5)
        both = torch.cat([x.mean(dim=(2, 3, 4)) for x in (slow, fast)], dim=1)
        assert torch.allclose(recording.embedding, both, atol=1e-5)

    def test_frames_of_a_2d_model_are_unfolded(self):
        recognizer, clips, recording = tapped(tiny_tsn(), size=64)
        assert recording.map.shape == (BATCH, 512, FRAMES, 2, 2)
        for sample in range(BATCH):
            for frame in range(FRAMES):
                alone = recognizer.backbone(clips[sample, frame][None])[0]
                assert torch.allclose(
                    recording.map[sample, :, frame], alone, atol=1e-4
                )

    @pytest.mark.parametrize(
        'cfg, tap',
        [
            (tiny_video_mae(), 'blocks.1'),
            (
                tiny_timesformer('divided_space_time'),
                'transformer_layers.layers.1',
            ),
            (
                tiny_timesformer('joint_space_time'),
                'transformer_layers.layers.1',
            ),
            (tiny_timesformer('space_only'), 'transformer_layers.layers.1'),
            (tiny_uniformer_v2(), 'transformer.resblocks.1'),
            (
                tiny_uniformer_v2(temporal_downsample=True),
                'transformer.resblocks.1',
            ),
        ],
        ids=lambda value: value if isinstance(value, str) else '',
    )
    def test_tokens_lie_where_their_patches_were(self, cfg, tap):
        """Blocks that add nothing leave the patches as they came in."""
        recognizer = build(cfg)
        backbone = recognizer.backbone
        blocks = backbone.get_submodule(tap.rsplit('.', 1)[0])
        for parameter in blocks.parameters():
            nn.init.zeros_(parameter)
        for name in ('pos_embed', 'time_embed', 'positional_embedding'):
            if hasattr(backbone, name):
                getattr(backbone, name).data.zero_()
        clips = clips_for(recognizer)
        patches = []
        first = next(
            module
            for module in backbone.modules()
            if isinstance(module, (nn.Conv2d, nn.Conv3d))
        )
        first.register_forward_hook(lambda _, __, out: patches.append(out))

        feature_tap = FeatureTap(recognizer, clips)
        assert feature_tap.module_name == f'backbone.{tap}'
        with feature_tap.record(clips) as recording, torch.no_grad():
            recognizer.extract_feat(clips, stage='head')
        expected = patches[-1]
        if expected.ndim == 4:
            expected = rearrange(expected, '(b t) c h w -> b c t h w', b=BATCH)
        if hasattr(backbone, 'ln_pre'):
            expected = backbone.ln_pre(expected.movedim(1, -1)).movedim(-1, 1)
        assert torch.allclose(recording.map, expected, atol=1e-5)
        assert recording.map.shape[3:] == (SIZE // PATCH, SIZE // PATCH)

    def test_timm_swin_has_channels_last(self):
        pytest.importorskip('timm')
        cfg = tiny_tsn()
        cfg['backbone'] = dict(
            type='timm.swin_tiny_patch4_window7_224',
            img_size=64,
            embed_dim=12,
            depths=(1, 1, 1),
            num_heads=(1, 2, 4),
            feature_shape='NHWC',
        )
        cfg['cls_head']['in_channels'] = 48
        recognizer, clips, recording = tapped(cfg, size=64)
        frames = recognizer.backbone.layers(
            recognizer.backbone.patch_embed(clips.flatten(0, 1))
        )
        expected = rearrange(frames, '(b t) h w c -> b c t h w', b=BATCH)
        assert expected.shape == (BATCH, 48, FRAMES, 4, 4)
        grid = recording.map
        if recording.tap.module_name == 'backbone.norm':
            expected = recognizer.backbone.norm(
                expected.movedim(1, -1)
            ).movedim(-1, 1)
        assert torch.allclose(grid, expected, atol=1e-4)

    def test_a_vector_behind_pooling_is_no_map(self):
        """C3D ends in linear layers; the map before its last pooling."""
        backbone = dict(type='C3D', pretrained=None, out_dim=4608)
        cfg = recognizer_3d(backbone, 'TimeSformerHead', 4096)
        recognizer = build(cfg)
        clips = torch.zeros(1, 1, 3, 16, 64, 64)
        tap = FeatureTap(recognizer, clips)
        assert tap.module_name == 'backbone.conv5b'
        assert tap.shapes['map'] == (512, 2, 4, 4)


class TestNamedModule:
    def test_is_tapped(self):
        recognizer, clips, recording = tapped(tiny_x3d(), 'backbone.layer3')
        expected = output_of(recognizer, 'backbone.layer3', clips)
        assert torch.allclose(recording.map, expected, atol=1e-5)
        assert recording.map.shape[3:] != recording.head_input.shape[3:]

    def test_block_of_mvit_gives_tokens_and_their_grid(self):
        recognizer, clips, recording = tapped(tiny_mvit(), 'backbone.blocks.1')
        tokens, (frames, height, width) = output_of(
            recognizer, 'backbone.blocks.1', clips
        )
        assert tokens.shape[1] == 1 + frames * height * width
        for t, h, w in ((0, 0, 0), (1, 0, 2), (frames - 1, height - 1, 1)):
            token = tokens[:, 1 + (t * height + h) * width + w]
            assert torch.equal(recording.map[:, :, t, h, w], token)
        # The backbone's own map is this one behind its norm.
        patches, _ = recognizer.backbone(clips.flatten(0, 1))[-1]
        normed = recognizer.backbone.norm1(recording.map.movedim(1, -1))
        assert torch.allclose(normed.movedim(-1, 1), patches, atol=1e-5)

    def test_in_place_layers_behind_it_do_not_reach_it(self):
        recognizer, clips, recording = tapped(
            tiny_x3d(), 'backbone.layer4.0.conv1.bn'
        )
        assert recognizer.backbone.layer4[0].conv1.activate.inplace
        assert (recording.map < 0).any()
        for module in recognizer.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False
        expected = output_of(recognizer, 'backbone.layer4.0.conv1.bn', clips)
        assert torch.allclose(recording.map, expected, atol=1e-5)

    def test_gradient_passes_through_it(self):
        recognizer = build(tiny_x3d()).train()
        clips = clips_for(recognizer)
        tap = FeatureTap(recognizer, clips, 'backbone.layer4.0.conv1.bn')
        with tap.record(clips) as recording:
            recognizer.extract_feat(clips, stage='head')
        recording.map.square().mean().backward()
        weight = recognizer.backbone.layer4[0].conv1.conv.weight
        assert weight.grad.any()

    def test_without_a_grid_names_those_that_have_one(self):
        recognizer = build(tiny_x3d())
        clips = clips_for(recognizer)
        with pytest.raises(ValueError) as error:
            FeatureTap(recognizer, clips, 'cls_head.fc1', 'model.student')
        message = str(error.value)
        assert message.startswith("model.student.tap: 'cls_head.fc1' gives")
        assert 'which is no grid' in message
        with pytest.raises(ValueError) as error:
            FeatureTap(recognizer, clips, 'backbone.layr3', 'model.student')
        message = str(error.value)
        assert "'backbone.layr3' is no module that runs" in message
        shape = FeatureTap(recognizer, clips, 'backbone.layer3').shapes['map']
        assert f'  backbone.layer3: (C, T, H, W) = {shape}' in message


class TestEmbedding:
    @pytest.mark.parametrize(
        'cfg, linear',
        [
            (tiny_x3d(), 'fc1'),
            (tiny_mvit(), 'fc_cls'),
            (tiny_slowfast(), 'fc_cls'),
            (tiny_tsn(), 'fc_cls'),
            (tiny_video_mae(), 'fc_cls'),
            (tiny_video_mae(use_mean_pooling=False), 'fc_cls'),
            (tiny_timesformer('divided_space_time'), 'fc_cls'),
            (tiny_uniformer_v2(), 'fc_cls'),
            (tiny_swin(), 'fc_cls'),
        ],
        ids=lambda value: (
            value if isinstance(value, str) else value['backbone']['type']
        ),
    )
    def test_is_what_the_classifier_reads(self, cfg, linear):
        recognizer = build(cfg)
        clips = clips_for(recognizer)
        read = []
        recognizer.cls_head.get_submodule(linear).register_forward_hook(
            lambda _, args, __: read.append(args[0])
        )
        tap = FeatureTap(recognizer, clips)
        with tap.record(clips) as recording, torch.no_grad():
            recognizer.extract_feat(clips, stage='head')
        assert read[-1].shape == recording.embedding.shape
        assert torch.allclose(  # SlowFast's head puts the fast path first
            read[-1].sort().values,
            recording.embedding.sort().values,
            atol=1e-5,
        )

    def test_of_frames_in_the_batch_is_their_mean(self):
        maps = torch.randn(BATCH * FRAMES, 6, 2, 2)
        expected = maps.view(BATCH, FRAMES, 6, 4).mean(dim=(1, 3))
        assert torch.allclose(as_embedding(maps, BATCH), expected, atol=1e-6)

    def test_of_tokens_is_their_mean(self):
        tokens = torch.randn(BATCH, 5, 6)
        assert torch.equal(as_embedding(tokens, BATCH), tokens.mean(dim=1))


TUBELETS = PatchEmbedding((2, 16, 16), (2, 16, 16))


class TestInsideMViT:
    """Tokens without their size, as the layers of a block return them."""

    def outputs(self, size=(64, 64), frames=8):
        cfg = tiny_mvit()
        cfg['backbone']['spatial_size'] = size[0]
        cfg['backbone']['temporal_size'] = frames
        recognizer = build(cfg)
        clips = torch.randn(1, 1, 3, frames, *size)
        tap = FeatureTap(recognizer, clips)
        return recognizer, clips, tap._dry_run(clips, ClipShape.of(clips))

    @pytest.mark.parametrize('size', [(64, 64), (64, 112), (60, 60)])
    def test_every_layer_of_a_block_has_its_grid(self, size):
        _, _, outputs = self.outputs(size)
        for block, layers in (
            ('backbone.blocks.0', ['norm1', 'attn.qkv', 'attn.proj', 'norm2']),
            ('backbone.blocks.1', ['attn.proj', 'norm2', 'mlp', 'mlp.fc1']),
        ):
            grid = outputs[block].grid_shape[1:]
            assert grid[0] == 4  # the patch embedding halves the frames
            for layer in layers:
                found = outputs[f'{block}.{layer}'].grid_shape
                assert found is not None, (block, layer)
                assert found[1:] == grid, (block, layer)

    def test_a_deep_grid_is_not_one_of_few_frames(self):
        """4 * 4 * 4 tokens are not one frame of 8 * 8."""
        recognizer, clips, outputs = self.outputs()
        name = 'backbone.blocks.1.norm2'
        assert outputs[name].text == 'Tensor of [(1, 257, 32)]'
        assert outputs[name].grid_shape == (32, 4, 8, 8)
        tap = FeatureTap(recognizer, clips, name)
        with tap.record(clips) as recording, torch.no_grad():
            recognizer.extract_feat(clips, stage='head')
        tokens = output_of(recognizer, name, clips)
        expected = rearrange(
            tokens[:, 1:], 'b (t h w) c -> b c t h w', t=4, h=8
        )
        assert torch.equal(recording.map, expected)


class TestAspect:
    """A map of any of the usual strides is recognised, up to its rounding."""

    @pytest.mark.parametrize(
        'height, width',
        [(224, 224), (360, 640), (640, 360), (360, 840), (180, 540)]
        + [(240, 320), (270, 480), (182, 182), (100, 300), (300, 100)],
    )
    @pytest.mark.parametrize('stride', [2, 4, 8, 16, 32])
    def test_of_strided_maps(self, height, width, stride):
        clip = ClipShape(1, 4, height, width)
        for rounded in (math.floor, math.ceil):
            plane = [max(1, rounded(s / stride)) for s in (height, width)]
            assert same_aspect(plane, clip), plane

    @pytest.mark.parametrize('plane', [(7, 9), (12, 30), (6, 3), (40, 23)])
    def test_of_what_is_no_map(self, plane):
        assert not same_aspect(plane, ClipShape(1, 4, 360, 640))

    def test_a_landscape_clip_keeps_the_backbones_output(self):
        recognizer = build(tiny_tsn())
        tap = FeatureTap(recognizer, torch.zeros(1, 2, 3, 90, 160))
        assert tap.module_name == 'backbone'
        assert tap.shapes['map'] == (512, 2, 3, 5)

    def test_a_fall_back_is_logged(self, logged):
        recognizer = build(tiny_video_mae())
        tap = FeatureTap(recognizer, clips_for(recognizer), key='model.vit')
        said = logged()
        assert "model.vit: the backbone's output" in said
        assert repr(tap.module_name) in said and 'model.vit.tap' in said


class TestGradientCheckpointing:
    def record(self, module, frozen=False, with_cp=True):
        cfg = tiny_x3d()
        cfg['backbone']['with_cp'] = with_cp
        recognizer = build(cfg).train()
        clips = clips_for(recognizer)
        tap = FeatureTap(recognizer, clips[:1], module, 'model.student')
        if frozen:
            recognizer.backbone.requires_grad_(False)
        with tap.record(clips) as recording:
            recognizer.extract_feat(clips, stage='head')
        return recording

    def test_a_map_inside_is_refused(self):
        recording = self.record('backbone.layer3.0.conv1')
        with pytest.raises(
            ValueError,
            match=r"model\.student: .*'backbone\.layer3\.0\.conv1'.*no "
            r'gradient.*checkpointing is on \(backbone',
        ):
            recording.check_gradient(['map'])
        recording.check_gradient(['embedding'])  # the losses read no map

    def test_a_map_outside_is_accepted(self):
        self.record('backbone.layer3').check_gradient(['map'])

    def test_a_frozen_backbone_is_the_users_choice(self):
        recording = self.record('backbone.layer3', True, with_cp=False)
        assert not recording.map.requires_grad
        recording.check_gradient(['map'])


class TestTokens:
    clip = ClipShape(batch=2, frames=4, height=32, width=48)
    cells = torch.arange(2 * 2 * 2 * 3.0).view(2, 1, 2, 2, 3)  # B C T H W

    def as_grid(self, tokens, layout='b (t h w) c'):
        return as_grid(tokens, self.clip, layout, TUBELETS)

    @pytest.mark.parametrize('extra', [0, 1, 2])
    def test_leading_tokens_are_dropped(self, extra):
        tokens = rearrange(self.cells, 'b c t h w -> b (t h w) c')
        tokens = torch.cat([torch.full((2, extra, 1), -1.0), tokens], dim=1)
        assert torch.equal(self.as_grid(tokens), self.cells)

    @pytest.mark.parametrize(
        'layout', ['b (t h w) c', 'b (h w t) c', '(h w) (b t) c']
    )
    def test_layouts(self, layout):
        tokens = rearrange(self.cells, f'b c t h w -> {layout}')
        assert torch.equal(self.as_grid(tokens, layout), self.cells)

    def test_frames_in_the_batch(self):
        tokens = rearrange(self.cells, 'b c t h w -> (b t) (h w) c')
        assert torch.equal(self.as_grid(tokens), self.cells)

    def test_the_frames_are_those_of_the_patch_embedding(self):
        """8 tokens are 2 frames of 2 x 2, not 4 of 1 x 2."""
        clip = ClipShape(batch=1, frames=4, height=32, width=32)
        tokens = torch.arange(8.0).view(1, 8, 1)
        grid = as_grid(tokens, clip, 'b (t h w) c', TUBELETS)
        assert grid.shape == (1, 1, 2, 2, 2)

    def test_a_length_that_fits_two_planes_is_refused(self):
        """Halved, 3 x 5 is 1 x 2 or 2 x 3: 7 tokens fit neither well."""
        clip = ClipShape(batch=1, frames=1, height=9, width=15)
        pixels = PatchEmbedding((1, 3, 3), (1, 3, 3))
        lengths = {3 * 5: (3, 5), 2 * 3: (2, 3), 1 * 2: (1, 2), 12: None}
        for length, plane in lengths.items():
            grid = as_grid(
                torch.zeros(1, length, 1), clip, 'b (t h w) c', pixels
            )
            found = None if grid is None else tuple(grid.shape[3:])
            assert found == plane, length

    @pytest.mark.parametrize(
        'output',
        [
            torch.zeros(2, 6),  # a vector
            torch.zeros(3, 6, 2, 2, 3),  # another batch
            torch.zeros(2, 7, 5, 5),  # attention weights
            torch.zeros(2, 6, 4, 40, 60),  # larger than the clip
            torch.zeros(2, 6, 2, 2, 3, dtype=torch.long),
            (torch.zeros(2, 6), None),
            None,
            'text',
        ],
        ids=str,
    )
    def test_what_is_no_grid(self, output):
        assert self.as_grid(output) is None


class TestStages:
    def tap(self, cfg, **options):
        recognizer = build(cfg)
        return FeatureTap(recognizer, clips_for(recognizer), **options)

    def test_of_a_cnn_end_at_its_last_activation(self):
        tap = self.tap(tiny_x3d())
        assert tap.stage_names == [
            'backbone.conv1_t',
            'backbone.layer1',
            'backbone.layer2',
            'backbone.layer3',
            'backbone.conv5',
        ]
        assert tap.shapes['maps'][-1] == tap.shapes['map']

    def test_of_slowfast_are_the_slow_paths(self):
        names = self.tap(tiny_slowfast()).stage_names
        assert names[-2:] == [
            'backbone.slow_path.layer3',
            'backbone.slow_path.layer4',
        ]
        assert not any('fast_path' in n.split('.')[1:2] for n in names[1:])

    def test_of_mvit_come_before_its_last_norm(self):
        """AT's maps: behind a LayerNorm every token has the same energy."""
        recognizer = build(tiny_mvit())
        clips = clips_for(recognizer)
        tap = FeatureTap(recognizer, clips)
        assert tap.stage_names == ['backbone.blocks.0', 'backbone.blocks.1']
        with tap.record(clips, ['maps']) as recording:
            recognizer.extract_feat(clips, stage='head')
        energy = [
            x.square().mean(dim=1).flatten(1)
            for x in (recording.map, recording.maps[-1])
        ]
        spread = [(e.std(dim=1) / e.mean(dim=1)).max() for e in energy]
        assert spread[0] < 0.01 < spread[1]

    def test_of_a_plain_vit_are_four_of_its_blocks(self):
        cfg = recognizer_3d(
            dict(
                type='VisionTransformer',
                img_size=SIZE,
                patch_size=PATCH,
                embed_dims=16,
                depth=6,
                num_heads=2,
                num_frames=FRAMES,
            ),
            'TimeSformerHead',
            16,
        )
        names = self.tap(cfg).stage_names
        assert [int(n.split('.')[-1]) for n in names] == [0, 2, 3, 5]

    def test_can_be_named(self):
        names = ['backbone.layer2', 'backbone.layer3']
        assert self.tap(tiny_x3d(), stages=names).stage_names == names
        with pytest.raises(ValueError, match="model.stages: 'backbone.lay"):
            self.tap(tiny_x3d(), stages=['backbone.lay'])

    def test_are_recorded_on_demand_only(self):
        recognizer = build(tiny_x3d())
        clips = clips_for(recognizer)
        tap = FeatureTap(recognizer, clips)
        with tap.record(clips) as recording:
            recognizer.extract_feat(clips, stage='head')
        assert list(recording.outputs) == [tap.module_name]
        assert recording.model_input is None


class TestStem:
    @pytest.mark.parametrize(
        'cfg, stem',
        [
            (tiny_x3d(), 'backbone.conv1_s.conv'),
            (tiny_mvit(), 'backbone.patch_embed.projection'),
            (tiny_tsn(), 'backbone.conv1.conv'),
        ],
    )
    def test_is_the_convolution_that_reads_the_clip(self, cfg, stem):
        recognizer = build(cfg)
        clips = clips_for(recognizer)
        tap = FeatureTap(recognizer, clips)
        assert tap.stem_name == stem
        module = recognizer.get_submodule(stem)
        with tap.record(clips, ['stem', 'clip']) as recording:
            recognizer.extract_feat(clips, stage='head')
        if isinstance(module, nn.Conv3d):
            expected = module(recording.clip)
        else:
            expected = torch.stack(
                [module(frame) for frame in recording.clip.unbind(2)], dim=2
            )
        assert torch.allclose(recording.stem, expected, atol=1e-5)

    def test_of_slowfast_sees_every_frame(self):
        recognizer = build(tiny_slowfast())
        tap = FeatureTap(recognizer, clips_for(recognizer))
        assert tap.stem_name == 'backbone.fast_path.conv1.conv'
