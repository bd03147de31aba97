"""One teacher, any losses; what a loss may ask for; a loss of one's own."""

import pytest
import torch
import torch.nn as nn
from mmaction.registry import MODELS
from mmengine.optim import OptimWrapper
from tiny_models import (
    FRAMES,
    NUM_CLASSES,
    SIZE,
    batch,
    tiny_distiller,
    tiny_mvit,
    tiny_single_teacher,
    tiny_tsn,
    tiny_x3d,
)

from dtkd_mmaction.losses import KDLoss, RKDLoss


@MODELS.register_module()
class EveryArgumentLoss(nn.Module):
    """Asks for everything there is and keeps it."""

    def __init__(
        self,
        loss_weight: float = 1.0,
        num_classes: int = 0,
        student_shape: tuple = (),
        teacher_shape: tuple = (),
        student_shapes: list = (),
        teacher_shapes: list = (),
        student_width: int = 0,
        teacher_width: int = 0,
        student_stem_shape: tuple = (),
        teacher_clip_shape: tuple = (),
    ) -> None:
        super().__init__()
        self.built = {k: v for k, v in locals().items() if k != 'self'}
        self.monitors = {}

    def forward(
        self,
        student_logits,
        teacher_logits,
        labels,
        sample_ids,
        student_embedding,
        teacher_embedding,
        student_map,
        teacher_map,
        student_maps,
        teacher_maps,
        student_stem,
        teacher_clip,
    ):
        self.got = {k: v for k, v in locals().items() if k != 'self'}
        self.monitors = dict(seen=labels.float().mean())
        return student_logits.mean() * 0


def build(**overrides):
    torch.manual_seed(0)
    return MODELS.build(tiny_single_teacher(**overrides))


def losses_of(distiller, data=None):
    data = distiller.data_preprocessor(data or batch(), training=True)
    return distiller(**data, mode='loss')


def with_ids(data):
    for i, sample in enumerate(data['data_samples']):
        sample.set_metainfo(dict(sample_idx=7 + i))
    return data


class TestLosses:
    def test_any_number_of_them(self):
        distiller = build(
            losses=dict(kd=dict(type='KDLoss'), far=dict(type='RKDLoss'))
        )
        losses = losses_of(distiller)
        assert {k for k in losses if 'loss' in k} == {
            'loss_cls',
            'loss_kd',
            'loss_far',
        }

    def test_values_are_those_of_the_two_models(self):
        distiller = build(
            losses=dict(
                kd=dict(type='KDLoss', tau=2.0, loss_weight=3.0),
                rkd=dict(type='RKDLoss', loss_weight=5.0),
                every=dict(type='EveryArgumentLoss'),
            )
        ).eval()
        losses = losses_of(distiller, with_ids(batch(3)))
        got = distiller.losses.losses['every'].got
        assert torch.equal(
            losses['loss_kd'],
            KDLoss(3.0, tau=2.0)(got['student_logits'], got['teacher_logits']),
        )
        assert torch.equal(
            losses['loss_rkd'],
            RKDLoss(5.0)(got['student_embedding'], got['teacher_embedding']),
        )

    def test_what_a_loss_gets(self):
        distiller = build(losses=dict(every=dict(type='EveryArgumentLoss')))
        losses = losses_of(distiller, with_ids(batch(3)))
        loss = distiller.losses.losses['every']
        got, built = loss.got, loss.built
        assert built['num_classes'] == NUM_CLASSES
        assert got['labels'].tolist() == [0, 1, 2]
        assert got['sample_ids'].tolist() == [7, 8, 9]
        for who in ('student', 'teacher'):
            assert got[f'{who}_logits'].shape == (3, NUM_CLASSES)
            assert got[f'{who}_embedding'].shape == (3, built[f'{who}_width'])
            assert got[f'{who}_map'].shape[1:] == built[f'{who}_shape']
            assert [x.shape[1:] for x in got[f'{who}_maps']] == built[
                f'{who}_shapes'
            ]
        assert got['student_stem'].shape[1:] == built['student_stem_shape']
        assert got['teacher_clip'].shape[1:] == built['teacher_clip_shape']
        assert built['teacher_clip_shape'] == (3, FRAMES, SIZE, SIZE)
        assert losses['every/seen'] == 1

    def test_the_teachers_clip_is_normalised_by_the_teacher(self):
        distiller = build(losses=dict(every=dict(type='EveryArgumentLoss')))
        data = with_ids(batch(2, pixels=SIZE))
        losses_of(distiller, data)
        clip = distiller.losses.losses['every'].got['teacher_clip']
        raw = torch.stack(data['inputs'])[:, 0].float()
        mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1, 1)
        std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1, 1)
        assert torch.allclose(clip, (raw - mean) / std, atol=1e-5)

    def test_the_stem_is_not_overwritten_by_layers_in_place(self):
        """X3D's ReLU works in place; the first convolution feeds another."""
        distiller = build(losses=dict(every=dict(type='EveryArgumentLoss')))
        losses_of(distiller, with_ids(batch()))
        assert distiller.losses.losses['every'].got['student_stem'].min() < 0

    def test_a_mixed_label_is_its_largest_share(self):
        blend = dict(type='MixupBlending', num_classes=NUM_CLASSES, alpha=0.2)
        distiller = build(
            losses=dict(every=dict(type='EveryArgumentLoss')),
            student=dict(cfg=tiny_x3d(blending=blend)),
        )
        losses_of(distiller, with_ids(batch(4)))
        labels = distiller.losses.losses['every'].got['labels']
        assert labels.shape == (4,) and labels.dtype == torch.int64

    def test_label_weight(self):
        whole, tenth = (
            losses_of(build(label_weight=w).eval()) for w in (1.0, 0.1)
        )
        assert torch.allclose(tenth['loss_cls'], 0.1 * whole['loss_cls'])
        assert torch.equal(tenth['loss_kd'], whole['loss_kd'])

    def test_none_switches_an_inherited_loss_off(self):
        losses = losses_of(
            build(losses=dict(kd=None, rkd=dict(type='RKDLoss')))
        )
        assert 'loss_kd' not in losses

    def test_student_transform_reaches_the_student_alone(self):

        @MODELS.register_module(force=True)
        class BlackClips(nn.Module):
            def forward(self, clips):
                return torch.zeros_like(clips)

        plain, black = (
            build(
                losses=dict(every=dict(type='EveryArgumentLoss')),
                student_transform=transform,
            ).eval()
            for transform in (None, dict(type='BlackClips'))
        )
        got = []
        for distiller in (plain, black):
            losses_of(distiller, with_ids(batch()))
            got.append(distiller.losses.losses['every'].got)
        assert not torch.equal(
            got[0]['student_logits'], got[1]['student_logits']
        )
        assert torch.equal(got[0]['teacher_logits'], got[1]['teacher_logits'])

    @pytest.mark.parametrize('student', [tiny_x3d, tiny_mvit, tiny_tsn])
    @pytest.mark.parametrize('teacher', [tiny_x3d, tiny_mvit, tiny_tsn])
    def test_any_pair(self, student, teacher):
        view = dict(frames=FRAMES, size=SIZE)
        distiller = build(
            student=dict(cfg=student(), view=view),
            teacher=dict(cfg=teacher(), view=view, checkpoint=None),
            losses=dict(every=dict(type='EveryArgumentLoss')),
        )
        losses = losses_of(distiller, with_ids(batch()))
        total, _ = distiller.parse_losses(losses)
        total.backward()


@MODELS.register_module()
class SizedLoss(nn.Module):
    """Has a state that depends on channels and an option on the plane."""

    def __init__(self, student_shape, teacher_shape) -> None:
        super().__init__()
        self.layer = nn.Linear(student_shape[0], teacher_shape[0])
        self.sizes = student_shape[1:], teacher_shape[1:]

    def forward(self, student_map, teacher_map):
        assert self.sizes == (student_map.shape[2:], teacher_map.shape[2:])
        pooled = self.layer(student_map.mean(dim=(2, 3, 4)))
        return (pooled - teacher_map.mean(dim=(2, 3, 4))).square().mean()


@MODELS.register_module()
class TableLoss(nn.Module):
    """Has one weight per position of the student's map."""

    def __init__(self, student_shape) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(student_shape[1:]))

    def forward(self, student_map):
        return (student_map * self.table).mean()


class TestWithoutView:
    """A model without a view sees the clips of train_pipeline as they are."""

    SPECS = dict(
        student=dict(cfg=tiny_x3d()),
        teacher=dict(cfg=tiny_x3d(16), checkpoint=None),
    )

    def test_shapes_are_those_of_the_clips(self):
        """The stock clip of an inline model is 16 x 224 x 224."""
        distiller = build(
            losses=dict(sized=dict(type='SizedLoss')), **self.SPECS
        )
        parameters = dict(distiller.named_parameters())
        state = torch.random.get_rng_state()
        losses = losses_of(distiller)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert distiller.losses.losses['sized'].sizes == (
            (FRAMES, 2, 2),
            (FRAMES, 2, 2),
        )
        for tap in (
            distiller.student_tap,
            distiller.teachers['teacher'].tap,
        ):
            assert tap.shapes['clip'] == (3, FRAMES, 48, 48)
            assert tap.shapes['map'][1:] == (FRAMES, 2, 2)
        # The optimizer holds the parameters that it was given.
        for name, parameter in distiller.named_parameters():
            assert parameter is parameters[name]
        losses['loss_sized'].backward()
        assert parameters['losses.losses.sized.layer.weight'].grad is not None

    def test_weights_that_depend_on_the_clips_are_refused(self):
        distiller = build(
            losses=dict(table=dict(type='TableLoss')), **self.SPECS
        )
        with pytest.raises(
            ValueError,
            match=r'losses\.table: TableLoss.*\(144, 16, 7, 7\) and is '
            r'\(144, 4, 2, 2\).*view',
        ):
            losses_of(distiller)

    def test_a_view_settles_it(self):
        view = dict(frames=FRAMES, size=48)
        losses = losses_of(
            build(
                losses=dict(table=dict(type='TableLoss')),
                student=dict(cfg=tiny_x3d(), view=view),
            )
        )
        assert losses['loss_table'].isfinite()

    def test_clips_that_a_model_cannot_take(self):
        cfg = tiny_mvit()
        cfg['backbone'] = dict(
            type='VisionTransformer', embed_dims=24, depth=1, num_heads=2
        )
        cfg['cls_head'] = dict(
            type='TimeSformerHead', in_channels=24, num_classes=NUM_CLASSES
        )
        distiller = build(student=dict(cfg=cfg))
        with pytest.raises(
            ValueError,
            match=r'model\.student: VisionTransformer cannot take 4 frames '
            r'of 48x48.*model\.student\.view',
        ):
            losses_of(distiller)


class TestGradientCheckpointing:
    """See also TestGradientCheckpointing of the tap."""

    AT = dict(at=dict(type='ATLoss'))

    def student(self, **options):
        cfg = tiny_x3d()
        cfg['backbone']['with_cp'] = True
        view = dict(frames=FRAMES, size=SIZE)
        return dict(cfg=cfg, view=view, **options)

    def test_a_stage_inside_is_refused_before_the_first_step(self):
        distiller = build(
            student=self.student(stages=['backbone.layer2.0.conv1']),
            losses=self.AT,
        )
        with pytest.raises(ValueError, match=r"layer2\.0\.conv1'.*with_cp"):
            losses_of(distiller)

    def test_stages_outside_train_the_student(self):
        losses = losses_of(build(student=self.student(), losses=self.AT))
        assert losses['loss_at'].requires_grad


class TestBesideDualTeacher:
    def test_from_either_teacher(self):
        torch.manual_seed(0)
        distiller = MODELS.build(
            tiny_distiller(
                losses=dict(
                    kd=dict(type='KDLoss', teacher='vit'),
                    far=dict(type='RKDLoss', teacher='cnn'),
                )
            )
        )
        losses = losses_of(distiller)
        assert {k for k in losses if 'loss' in k} == {
            'loss_cls',
            'loss_sr',
            'loss_sd',
            'loss_rkd',
            'loss_kd',
            'loss_far',
        }

    def test_alone_only_their_teacher_runs(self):
        distiller = MODELS.build(
            tiny_distiller(
                loss_sr=None,
                loss_sd=None,
                loss_rkd=None,
                losses=dict(kd=dict(type='KDLoss', teacher='cnn')),
            )
        )
        ran = []
        for name, model in distiller.teachers.items():
            model.register_forward_hook(lambda *_, name=name: ran.append(name))
        losses_of(distiller)
        assert ran == ['cnn']

    @pytest.mark.parametrize('teacher', [None, 'swin'])
    def test_which_teacher_must_be_said(self, teacher):
        loss = dict(type='KDLoss')
        if teacher:
            loss['teacher'] = teacher
        with pytest.raises(
            ValueError, match=r"model.losses.kd.teacher=.*\['vit', 'cnn'\]"
        ):
            MODELS.build(tiny_distiller(losses=dict(kd=loss)))


class TestBuilding:
    def test_no_teacher_is_built_unless_a_shape_is_asked_for(self):
        assert not build()._teachers
        assert build(
            losses=dict(every=dict(type='EveryArgumentLoss'))
        )._teachers

    def test_training_only_weights_are_optimized_and_not_the_teachers(self):
        @MODELS.register_module(force=True)
        class LinearLoss(nn.Module):
            def __init__(self, student_width, teacher_width):
                super().__init__()
                self.embed = nn.Linear(student_width, teacher_width)

            def forward(self, student_embedding, teacher_embedding):
                error = self.embed(student_embedding) - teacher_embedding
                return error.square().mean()

        distiller = build(losses=dict(linear=dict(type='LinearLoss')))
        before = {k: v.clone() for k, v in distiller.state_dict().items()}
        assert not any('teacher' in name for name in before)
        distiller.train_step(
            batch(),
            OptimWrapper(torch.optim.SGD(distiller.parameters(), lr=0.1)),
        )
        after = distiller.state_dict()
        name = 'losses.losses.linear.embed.weight'
        assert not torch.equal(before[name], after[name])

    def test_bad_configs(self):
        with pytest.raises(TypeError, match='model.losses.kd must be a dict'):
            build(losses=dict(kd='KDLoss'))
        with pytest.raises(
            ValueError, match="model.losses.kd.type='KLoss' is not registered"
        ):
            build(losses=dict(kd=dict(type='KLoss')))

        @MODELS.register_module(force=True)
        class CuriousLoss(nn.Module):
            def forward(self, student_gradients):
                return 0

        with pytest.raises(
            TypeError, match="arguments .'student_gradients'.; there are"
        ):
            build(losses=dict(curious=dict(type='CuriousLoss')))

    @pytest.mark.parametrize('name', ['my_loss', 'loss', 'losses'])
    def test_names_that_mmengine_would_add_up(self, name):
        with pytest.raises(ValueError, match=f'losses.{name}.*total loss'):
            build(losses={name: dict(type='KDLoss')})

    def test_monitors_that_mmengine_would_add_up(self):

        @MODELS.register_module(force=True)
        class LoudLoss(nn.Module):
            monitors = dict(loss_before=torch.tensor(3.0))

            def forward(self, student_logits):
                return student_logits.sum()

        with pytest.raises(ValueError, match="loud.*'loss_before'"):
            losses_of(build(losses=dict(loud=dict(type='LoudLoss'))))

    def test_missing_sample_ids(self):
        distiller = build(losses=dict(every=dict(type='EveryArgumentLoss')))
        with pytest.raises(KeyError, match='meta_keys'):
            losses_of(distiller)
