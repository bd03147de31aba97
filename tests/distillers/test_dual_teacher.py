import copy
import math

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.optim import OptimWrapper
from tiny_models import (
    FRAMES,
    NUM_CLASSES,
    SIZE,
    batch,
    tiny_distiller,
    tiny_mvit,
    tiny_tsn,
    tiny_x3d,
)

from dtkd_mmaction.losses import DATWLoss, RKDLoss
from dtkd_mmaction.recognizers.model_spec import build_recognizer, load_config

LOSSES = {'loss_cls', 'loss_sr', 'loss_sd', 'loss_rkd'}


def build(**overrides):
    """The plain objective; trust and limit have tests of their own."""
    torch.manual_seed(0)
    plain = dict(teacher_trust=False, max_gradient_ratio=0)
    return MODELS.build(tiny_distiller(**{**plain, **overrides}))


def losses_of(distiller, data=None):
    data = distiller.data_preprocessor(data or batch(), training=True)
    return distiller(**data, mode='loss')


def train_step(distiller, data=None):
    optimizer = OptimWrapper(torch.optim.SGD(distiller.parameters(), lr=0.1))
    return distiller.train_step(data or batch(), optimizer)


def stock(cfg):
    return build_recognizer(load_config(dict(cfg=cfg), 'model'), 'model')


class TestObjective:
    def test_keys_and_sum(self):
        distiller = build()
        losses = losses_of(distiller)
        assert {k for k in losses if 'loss' in k} == LOSSES
        assert {
            f'{name}/{teacher}'
            for name in ('datw', 'confidence', 'discrepancy')
            for teacher in ('vit', 'cnn')
        } | {'mask_kept', 'residual_var'} <= set(losses)
        total, _ = distiller.parse_losses(losses)
        assert math.isclose(
            float(total), sum(float(losses[k]) for k in LOSSES), rel_tol=1e-6
        )

    def test_default_weights_are_those_of_the_notes(self):
        distiller = build()
        assert distiller.loss_sr.loss_weight == 1
        assert distiller.loss_sd.loss_weight == 1
        assert distiller.loss_rkd.loss_weight == 1

    @pytest.mark.parametrize('name', ['loss_sr', 'loss_sd', 'loss_rkd'])
    def test_none_switches_a_loss_off(self, name):
        distiller = build(**{name: None})
        losses = losses_of(distiller)
        assert {k for k in losses if 'loss' in k} == LOSSES - {name}
        assert (distiller.branch is None) == (name == 'loss_sd')

    @pytest.mark.parametrize(
        'teacher, runs',
        [('vit', ['vit']), ('cnn', ['cnn']), ('both', ['cnn', 'vit'])],
    )
    def test_a_teacher_that_no_loss_needs_is_not_run(self, teacher, runs):
        distiller = build(loss_sr=None, loss_sd=None, rkd_teacher=teacher)
        ran = []
        for name, model in distiller.teachers.items():
            model.register_forward_hook(lambda *_, name=name: ran.append(name))
        losses_of(distiller)
        assert sorted(ran) == runs

    def test_losses_are_those_of_the_models_outputs(self):
        """Eq. 7 and 13 from logits and features computed by hand."""
        distiller = build(
            student=dict(cfg=tiny_x3d(), view=dict(frames=2, size=SIZE))
        )
        distiller.eval()
        data = batch(3)
        losses = losses_of(distiller, data)
        clips = torch.stack(data['inputs'])

        def logits(model, view, mean, std):
            frames = clips[:, :, :, :: FRAMES // view[0]].float()
            images = frames.transpose(2, 3).flatten(0, 2)
            images = torch.nn.functional.interpolate(
                images, (view[1], view[1]), mode='bilinear'
            )
            mean, std = (torch.tensor(x).view(3, 1, 1) for x in (mean, std))
            images = ((images - mean) / std).reshape(
                3, 1, view[0], 3, view[1], view[1]
            )
            features, _ = model.extract_feat(images.transpose(2, 3))
            return model.cls_head(features), features

        x3d = [114.75] * 3, [57.38] * 3
        student, student_map = logits(distiller.student, (2, SIZE), *x3d)
        vit, vit_tokens = logits(
            distiller.teachers['vit'].recognizer,
            (FRAMES, SIZE),
            [123.675, 116.28, 103.53],
            [58.395, 57.12, 57.375],
        )
        cnn, _ = logits(
            distiller.teachers['cnn'].recognizer, (FRAMES, 48), *x3d
        )
        expected = DATWLoss()(student, dict(vit=vit, cnn=cnn))
        assert torch.allclose(losses['loss_sr'], expected, atol=1e-6)
        expected = RKDLoss(loss_weight=1)(
            student_map.mean(dim=(2, 3, 4)), vit_tokens[-1][1]
        )
        assert torch.allclose(losses['loss_rkd'], expected, atol=1e-5)

    def test_the_label_loss_is_the_stock_models(self):
        distiller = build(student=dict(cfg=tiny_x3d(), view=None)).eval()
        student = copy.deepcopy(distiller.student)
        data = batch()
        expected = student(
            **student.data_preprocessor(batch(), training=True), mode='loss'
        )
        losses = losses_of(distiller, data)
        for name, value in expected.items():
            assert torch.equal(losses[name], value)

    def test_rkd_feature(self):
        pooled, patches = (
            losses_of(build(rkd_feature=f).eval(), batch(3))['loss_rkd']
            for f in ('classifier_input', 'mean_patch')
        )
        assert pooled != patches

    @pytest.mark.parametrize(
        'option', ['rkd_teacher', 'rkd_feature', 'preset', 'teacher_mode']
    )
    def test_unknown_choice(self, option):
        with pytest.raises(ValueError, match=f'model.{option}=.no.'):
            build(**{option: 'no'})

    @pytest.mark.parametrize('phi', ['probe', 'predictive', 'learnable'])
    def test_trainable_projections_are_optimized(self, phi):
        distiller = build(loss_sd=dict(phi=phi))
        trained = [
            name
            for name, p in distiller.named_parameters()
            if name.startswith('loss_sd.projections')
        ]
        assert trained
        before = copy.deepcopy(distiller.state_dict())
        train_step(distiller)
        after = distiller.state_dict()
        for name in trained:
            assert not torch.equal(before[name], after[name]), name

    def test_paper_literal_runs(self):
        distiller = build(preset='paper_literal')
        assert distiller.loss_sr.weight_options['confidence'] == (
            'paper_literal'
        )
        assert distiller.loss_sd.projections.mode == 'learnable'
        assert len(distiller.branch.layers) == 2  # no last convolution
        assert math.isfinite(train_step(distiller)['loss'])

    def test_branch_options(self):
        distiller = build(branch=dict(use_nonlocal=False, use_se=False))
        assert len(distiller.branch.layers) == 1


class TestFrozen:
    def test_nothing_of_a_teacher_changes(self):
        distiller = build()
        before = {
            name: copy.deepcopy(t.recognizer.state_dict())
            for name, t in distiller.teachers.items()
        }
        student = copy.deepcopy(distiller.student.state_dict())
        distiller.train()
        train_step(distiller)
        for name, teacher in distiller.teachers.items():
            for key, value in teacher.recognizer.state_dict().items():
                assert torch.equal(value, before[name][key]), key
        assert any(
            not torch.equal(value, student[key])
            for key, value in distiller.student.state_dict().items()
        )

    def test_bn_eval_only_mimics_mmrazor(self):
        """Dropout and stochastic depth stay on, statistics stay fixed."""
        distiller = build(teacher_mode='bn_eval_only')
        before = copy.deepcopy(
            distiller.teachers['cnn'].recognizer.state_dict()
        )
        distiller.eval()
        clips = torch.stack(batch()['inputs'])
        vit = distiller.teachers['vit']
        assert not torch.equal(vit(clips).logits, vit(clips).logits)
        train_step(distiller)
        after = distiller.teachers['cnn'].recognizer.state_dict()
        assert all(torch.equal(after[name], before[name]) for name in before)

    def test_train_leaves_every_teacher_module_in_eval(self):
        distiller = build()
        assert distiller.teachers
        distiller.train()
        distiller.teachers['vit'].train(True)
        assert distiller.student.training
        for teacher in distiller.teachers.values():
            assert not any(m.training for m in teacher.modules())
            assert not any(p.requires_grad for p in teacher.parameters())

    def test_a_teacher_answers_alike_twice(self):
        """Its drop-path of 0.5 is off."""
        teacher = build().train().teachers['vit']
        clips = torch.stack(batch()['inputs'])
        first, second = teacher(clips), teacher(clips)
        assert torch.equal(first.logits, second.logits)
        assert not first.logits.requires_grad

    def test_no_teacher_in_state_dict_parameters_or_copies(self):
        distiller = build()
        teachers = distiller.teachers
        owned = {id(p) for t in teachers.values() for p in t.parameters()}
        assert not owned & {id(p) for p in distiller.parameters()}
        assert {name.split('.')[0] for name in distiller.state_dict()} <= {
            'student',
            'branch',
            'loss_sd',
        }
        assert copy.deepcopy(distiller).teachers['vit'] is teachers['vit']

    def test_to_moves_the_teachers(self):
        distiller = build()
        assert distiller.teachers
        distiller.to(torch.float64)
        for teacher in distiller.teachers.values():
            assert next(teacher.parameters()).dtype == torch.float64
        distiller.to('meta')
        for teacher in distiller.teachers.values():
            assert next(teacher.parameters()).device.type == 'meta'
            assert teacher.recognizer.data_preprocessor.device.type == 'meta'

    def test_backbone_learns_from_each_loss_alone(self):
        for name in ('loss_sr', 'loss_sd', 'loss_rkd'):
            distiller = build()
            losses_of(distiller, batch(3))[name].backward()
            weight = distiller.student.backbone.conv1_s.conv.weight
            assert weight.grad.abs().sum() > 0, name


class TestStudentSide:
    def test_predict_and_tensor_are_the_students(self):
        distiller = build().eval()
        student = distiller.student
        scores = distiller.val_step(batch())[0].pred_score
        assert torch.equal(scores, student.val_step(batch())[0].pred_score)
        clips = student.data_preprocessor(batch())['inputs']
        assert torch.equal(
            distiller(clips, stage='head'), student(clips, stage='head')
        )

    def test_testing_never_builds_a_teacher(self):
        distiller = build(
            vit_teacher=dict(cfg='not/there.py', checkpoint='not/there.pth'),
            cnn_teacher=dict(cfg='not/there.py', checkpoint='not/there.pth'),
        )
        distiller.eval().test_step(batch())

    def test_stock_weights_load_as_the_students(self):
        source, target = stock(tiny_x3d()), build()
        target.load_state_dict(source.state_dict(), strict=False)
        for name, value in target.student.state_dict().items():
            assert torch.equal(value, source.state_dict()[name])

    def test_own_checkpoint_round_trip_is_strict(self):
        source = build()
        train_step(source)
        target = build()
        target.load_state_dict(source.state_dict(), strict=True)

    def test_mixup_is_applied_once_and_before_all_models(self):
        blending = dict(
            type='MixupBlending', alpha=0.8, num_classes=NUM_CLASSES
        )
        distiller = build(student=dict(cfg=tiny_x3d(blending=blending)))
        assert distiller.student.data_preprocessor.blending is None
        seen = []
        for model in distiller.teachers.values():
            model.register_forward_pre_hook(
                lambda _, args: seen.append(args[0].clone())
            )
        data = distiller.data_preprocessor(batch(4), training=True)
        distiller(**data, mode='loss')
        assert data['data_samples'][0].gt_label.shape == (NUM_CLASSES,)
        for clips in seen:
            assert torch.equal(clips, data['inputs'])
        assert len(seen) == 2

    def test_mixup_for_other_classes(self):
        blending = dict(type='MixupBlending', alpha=0.8, num_classes=400)
        with pytest.raises(ValueError, match=r'400 classes.*num_classes'):
            build(student=dict(cfg=tiny_x3d(blending=blending)))

    def test_2d_student_and_2d_teacher(self):
        distiller = build(
            student=dict(cfg=tiny_tsn(), view=dict(frames=2, size=SIZE)),
            cnn_teacher=dict(
                cfg=tiny_tsn(), checkpoint=None, view=dict(size=64)
            ),
        )
        assert distiller.student_tap.shapes['map'] == (512, 2, 1, 1)
        assert math.isfinite(train_step(distiller)['loss'])


class TestInitialisation:
    @pytest.mark.parametrize('loss_sd', [None, dict(loss_weight=1.0)])
    def test_a_seed_gives_the_student_that_it_gives_alone(self, loss_sd):
        torch.manual_seed(0)
        alone = stock(tiny_x3d())
        alone.init_weights()
        distiller = build(loss_sd=loss_sd)  # with the same seed
        distiller.init_weights()
        wanted = alone.state_dict()
        for key, value in distiller.student.state_dict().items():
            assert torch.equal(value, wanted[key]), key


class TestBadInput:
    def test_teacher_without_checkpoint(self):
        with pytest.raises(TypeError, match=r'model\.vit_teacher has no'):
            build(vit_teacher=dict(cfg=tiny_mvit()))

    def test_random_teacher_warns(self, logged):
        build().init_weights()
        said = logged()
        assert 'model.vit_teacher.checkpoint is None' in said
        assert 'model.cnn_teacher.checkpoint is None' in said

    @pytest.mark.parametrize('name', ['vit_teacher', 'cnn_teacher'])
    def test_other_classes(self, name):
        spec = dict(
            tiny_distiller()[name], cfg_options={'cls_head.num_classes': 7}
        )
        with pytest.raises(
            ValueError,
            match=rf'model\.{name} has 7 classes, model\.student has 4',
        ):
            build(**{name: spec}).init_weights()

    def test_num_classes_reaches_all_models(self):
        distiller = build(num_classes=9)
        distiller.init_weights()
        assert distiller.num_classes == 9
        assert {t.tap.num_classes for t in distiller.teachers.values()} == {9}

    def test_missing_teacher_checkpoint(self):
        spec = dict(tiny_distiller()['vit_teacher'], checkpoint='no/such.pth')
        with pytest.raises(
            ValueError, match=r"model\.vit_teacher\.checkpoint='no/such\.pth'"
        ):
            build(vit_teacher=spec).init_weights()

    def test_view_the_model_cannot_take(self):
        spec = dict(
            cfg=dict(
                tiny_mvit(),
                backbone=dict(
                    type='TimeSformer',
                    num_frames=4,
                    img_size=32,
                    patch_size=16,
                    embed_dims=16,
                    num_heads=2,
                    num_transformer_layers=1,
                ),
                cls_head=dict(
                    type='TimeSformerHead',
                    in_channels=16,
                    num_classes=NUM_CLASSES,
                ),
            ),
            checkpoint=None,
            view=dict(frames=3, size=64),
        )
        with pytest.raises(
            ValueError,
            match=r'model\.vit_teacher: TimeSformer cannot take a view of '
            r'3 frames of 64x64',
        ):
            build(vit_teacher=spec).init_weights()

    def test_view_with_more_frames_than_the_clips(self):
        distiller = build(
            student=dict(cfg=tiny_x3d(), view=dict(frames=8, size=SIZE))
        )
        with pytest.raises(
            ValueError, match=r'model\.student\.view\.frames=8'
        ):
            losses_of(distiller)

    def test_student_with_the_teachers_weights_warns(self, tmp_path, logged):
        path = str(tmp_path / 'x3d.pth')
        torch.save(stock(tiny_x3d()).state_dict(), path)
        distiller = build(
            student=dict(cfg=tiny_x3d(), checkpoint=path),
            cnn_teacher=dict(cfg=tiny_x3d(), checkpoint=path),
        )
        distiller.init_weights()
        said = logged()
        assert 'starts from the same weights as model.cnn_teacher' in said

    @pytest.mark.parametrize('value', [float('nan'), float('inf')])
    def test_a_loss_that_is_not_finite_is_named(self, value):
        distiller = build()
        distiller.loss_sd.loss_weight = value
        with pytest.raises(FloatingPointError, match=r"\{'loss': .*'loss_sd'"):
            train_step(distiller)

    def test_a_broken_teacher_is_no_silent_zero(self):
        distiller = build(loss_sr=None, loss_rkd=None)
        teacher = distiller.teachers['cnn'].recognizer
        teacher.backbone.conv5.conv.weight.data.fill_(float('nan'))
        with pytest.raises(FloatingPointError, match="'residual_var': nan"):
            train_step(distiller)
