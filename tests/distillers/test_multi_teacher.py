"""Any number of teachers, with every loss over their logits."""

import copy
import math

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from tiny_models import (
    FRAMES,
    NUM_CLASSES,
    SIZE,
    batch,
    labelled_samples,
    tiny_distiller,
    tiny_multi_teacher,
    tiny_mvit,
    tiny_x3d,
    two_questions,
    verb_noun_batch,
)

from dtkd_mmaction.deployment.student_export import student_checkpoint
from dtkd_mmaction.losses import AEKDLoss, CAMKDLoss, kd_loss
from dtkd_mmaction.recognizers.model_spec import build_recognizer, load_config

VIEW = dict(frames=FRAMES, size=SIZE)
PLAIN = dict(teacher_trust=False, max_gradient_ratio=0)
FUSIONS = {
    'datw': dict(type='DATWLoss'),
    'average': dict(type='AverageKDLoss'),
    'ebkd': dict(type='EBKDLoss'),
    'camkd': dict(type='CAMKDLoss'),
    'camkd_feature': dict(type='CAMKDLoss', feature_weight=1.0),
    'aekd': dict(type='AEKDLoss'),
    'unic': dict(type='UNICDropLoss', drop_probability=1.0),
}
every_fusion = pytest.mark.parametrize('fusion', FUSIONS)
some_fusions = pytest.mark.parametrize(
    'fusion', ['datw', 'camkd_feature', 'aekd']
)


def build(count=3, **overrides):
    torch.manual_seed(0)
    return MODELS.build(tiny_multi_teacher(count, **{**PLAIN, **overrides}))


def losses_of(distiller, data=None):
    torch.manual_seed(0)
    data = distiller.data_preprocessor(data or batch(), training=True)
    return distiller(**data, mode='loss')


def train_step(distiller, data=None):
    optimizer = OptimWrapper(torch.optim.SGD(distiller.parameters(), lr=0.1))
    return distiller.train_step(data or batch(), optimizer)


@pytest.fixture
def second_epoch():
    """The feature term of CA-MKD begins there."""
    hub = MessageHub.get_current_instance()
    before = hub.get_info('epoch', 0)
    hub.update_info('epoch', 1)
    yield
    hub.update_info('epoch', before)


@every_fusion
@pytest.mark.parametrize('count', [1, 2, 3])
def test_a_step_with_every_loss(fusion, count, second_epoch):
    distiller = build(count, fusion_loss=FUSIONS[fusion])
    losses = losses_of(distiller)
    assert {k for k in losses if 'loss' in k} == {'loss_cls', 'loss_fusion'}
    assert losses['loss_fusion'] > 0
    total, _ = distiller.parse_losses(losses)
    expected = float(losses['loss_cls'] + losses['loss_fusion'])
    assert float(total) == pytest.approx(expected)
    name = fusion.split('_')[0]
    names = ['vit', 'cnn', 'image'][:count]
    assert {f'{name}/{teacher}' for teacher in names} <= losses.keys()
    before = copy.deepcopy(distiller.student.state_dict())
    train_step(distiller)
    after = distiller.student.state_dict()
    assert any(not torch.equal(after[k], v) for k, v in before.items())


@every_fusion
def test_each_is_the_loss_sr_of_the_dual_distiller(fusion, second_epoch):
    torch.manual_seed(0)
    dual = MODELS.build(
        tiny_distiller(
            loss_sr=FUSIONS[fusion], loss_sd=None, loss_rkd=None, **PLAIN
        )
    ).eval()
    multi = build(2, fusion_loss=FUSIONS[fusion]).eval()
    multi.load_state_dict(
        {
            k: dual.state_dict()[k] if k.startswith('student.') else v
            for k, v in multi.state_dict().items()
        }
    )
    multi.fusion.load_state_dict(dual.fusion.state_dict())
    for name, teacher in dual.teachers.items():
        multi.teachers[name].load_state_dict(teacher.state_dict())
    ours, theirs = losses_of(multi), losses_of(dual)
    assert torch.equal(ours.pop('loss_fusion'), theirs.pop('loss_sr'))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], v) for k, v in theirs.items())


@some_fusions
def test_beside_the_other_losses_of_the_paper(fusion, second_epoch):
    torch.manual_seed(0)
    dual = MODELS.build(tiny_distiller(loss_sr=FUSIONS[fusion]))
    log = train_step(dual)
    assert {'loss_sr', 'loss_sd', 'loss_rkd', 'gradient/sr'} <= log.keys()
    assert all(math.isfinite(v) for v in log.values())


def recorded(distiller, data):
    """Logits of the student and the teachers on a batch, by hooks."""
    logits = {}
    models = {n: t.recognizer for n, t in distiller.teachers.items()}
    for name, model in dict(models, student=distiller.student).items():
        model.cls_head.register_forward_hook(
            lambda *args, name=name: logits.update({name: args[2].detach()})
        )
    losses = losses_of(distiller, data)
    return losses, logits


def test_the_loss_is_that_of_the_models_logits():
    distiller = build(fusion_loss=dict(type='CAMKDLoss', loss_weight=3.0))
    losses, logits = recorded(distiller.eval(), batch(3))
    student = logits.pop('student')
    labels = torch.tensor([0, 1, 2])
    expected = CAMKDLoss(loss_weight=3.0)(student, logits, labels)
    assert torch.allclose(losses['loss_fusion'], expected, atol=1e-6)


def test_further_losses_name_their_teacher():
    distiller = build(
        fusion_loss=None,
        losses=dict(kd=dict(type='KDLoss', teacher='image', tau=2.0)),
    )
    ran = []
    for name, teacher in distiller.teachers.items():
        teacher.register_forward_hook(lambda *_, name=name: ran.append(name))
    losses, logits = recorded(distiller.eval(), batch())
    assert ran == ['image']  # a teacher that no loss reads is not run
    expected = kd_loss(logits['student'], logits['image'], 2.0)
    assert torch.allclose(losses['loss_kd'], expected, atol=1e-6)


def test_a_third_teacher_added_to_a_config():
    config = Config(dict(model=tiny_multi_teacher(2, **PLAIN)))
    third = tiny_multi_teacher()['teachers']['image']
    config.merge_from_dict({'model.teachers.image': third})
    torch.manual_seed(0)
    losses = losses_of(MODELS.build(config.model))
    assert {'datw/vit', 'datw/cnn', 'datw/image'} <= losses.keys()
    weights = sum(losses[f'datw/{n}'] for n in ('vit', 'cnn', 'image'))
    assert float(weights) == pytest.approx(1)


class TestFrozen:
    def test_no_teacher_in_state_dict_or_parameters(self):
        distiller = build(fusion_loss=FUSIONS['camkd_feature'])
        owned = {
            id(p) for t in distiller.teachers.values() for p in t.parameters()
        }
        assert not owned & {id(p) for p in distiller.parameters()}
        names = {name.split('.')[0] for name in distiller.state_dict()}
        assert names == {'student', 'fusion'}
        trained = {n for n, _ in distiller.named_parameters() if 'fusion' in n}
        assert trained == {
            f'fusion.0.projections.{name}.{part}'
            for name in ('vit', 'cnn', 'image')
            for part in ('weight', 'bias')
        }

    def test_a_step_changes_no_teacher(self, second_epoch):
        distiller = build(fusion_loss=FUSIONS['camkd_feature']).train()
        before = {
            name: copy.deepcopy(teacher.state_dict())
            for name, teacher in distiller.teachers.items()
        }
        train_step(distiller)
        for name, teacher in distiller.teachers.items():
            assert not any(m.training for m in teacher.modules())
            for key, value in teacher.state_dict().items():
                assert torch.equal(value, before[name][key]), key

    def test_testing_never_builds_a_teacher(self):
        spec = dict(cfg='not/there.py', checkpoint='not/there.pth')
        distiller = build(teachers=dict(a=spec, b=spec, c=spec))
        distiller.eval().test_step(batch())

    def test_exports_the_stock_student(self):
        distiller = build(fusion_loss=FUSIONS['camkd_feature'])
        train_step(distiller)
        state = student_checkpoint(dict(state_dict=distiller.state_dict()))
        stock = build_recognizer(load_config(dict(cfg=tiny_x3d()), 'm'), 'm')
        stock.load_state_dict(state['state_dict'], strict=True)

    def test_own_checkpoint_round_trip_is_strict(self):
        source = build(teacher_trust=True, fusion_loss=FUSIONS['camkd'])
        train_step(source)
        target = build(teacher_trust=True, fusion_loss=FUSIONS['camkd'])
        target.load_state_dict(source.state_dict(), strict=True)


class TestLabels:
    @some_fusions
    def test_unlabelled_clips(self, fusion, second_epoch):
        distiller = build(fusion_loss=FUSIONS[fusion])
        distiller.has_unlabelled_clips = True
        data = batch(3)
        data['data_samples'] = labelled_samples([0, -1, 2])
        log = train_step(distiller, data)
        assert math.isfinite(log['loss_fusion']) and log['loss_fusion'] > 0

    def test_unlabelled_clips_have_equal_weights_in_camkd(self):
        distiller = build(fusion_loss=FUSIONS['camkd'])
        distiller.has_unlabelled_clips = True
        data = batch(3)
        data['data_samples'] = labelled_samples([-1, -1, -1])
        losses = losses_of(distiller.eval(), data)
        for name in ('vit', 'cnn', 'image'):
            assert float(losses[f'camkd/{name}']) == pytest.approx(1 / 3)

    @some_fusions
    def test_mixup(self, fusion, second_epoch):
        blending = dict(
            type='MixupBlending', alpha=0.8, num_classes=NUM_CLASSES
        )
        student = dict(cfg=tiny_x3d(blending=blending), view=VIEW)
        distiller = build(student=student, fusion_loss=FUSIONS[fusion])
        log = train_step(distiller, batch(4))
        assert math.isfinite(log['loss_fusion'])

    def test_a_right_teacher_has_the_weight_in_camkd(self):
        distiller = build(2, fusion_loss=FUSIONS['camkd']).eval()
        for name, sign in (('vit', 9.0), ('cnn', -9.0)):
            distiller.teachers[name].recognizer.cls_head.register_forward_hook(
                lambda *_, sign=sign: sign * torch.eye(NUM_CLASSES)
            )
        losses = losses_of(distiller, batch(NUM_CLASSES))
        assert losses['camkd/vit'] > 0.99


@some_fusions
def test_mixed_precision_computes_the_losses_in_float32(fusion, second_epoch):
    distiller = build(fusion_loss=FUSIONS[fusion])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = losses_of(distiller)
    assert losses['loss_fusion'].dtype == torch.float32
    assert torch.isfinite(losses['loss_fusion'])


def test_verb_and_noun_have_weights_of_their_own():
    distiller = build(
        student=dict(cfg=two_questions(tiny_x3d()), view=VIEW),
        teachers={
            name: dict(cfg=two_questions(model()), checkpoint=None, view=VIEW)
            for name, model in (
                ('a', tiny_x3d),
                ('b', tiny_mvit),
                ('c', tiny_x3d),
            )
        },
        fusion_loss=FUSIONS['camkd_feature'],
    )
    losses = losses_of(distiller, verb_noun_batch())
    for part in ('verb', 'noun'):
        assert losses[f'loss_fusion_{part}'] > 0
        for prefix in ('camkd', 'camkd_feature'):
            weights = [losses[f'{prefix}/{n}_{part}'] for n in 'abc']
            assert float(sum(weights)) == pytest.approx(1)


def test_classify_is_the_head_of_every_kind_of_teacher():
    """An embedding of a clip gives the logits of the clip."""
    distiller = build(3)
    clips = torch.stack(batch()['inputs'])
    for teacher in distiller.teachers.values():
        outputs = teacher(clips)
        logits = teacher.classify(outputs.embedding)
        assert torch.allclose(logits, outputs.logits, atol=1e-5)


class TestTrustAndLimit:
    def test_the_wrong_teacher_loses_its_weight(self):
        distiller = build(
            2,
            teacher_trust=True,
            fusion_loss=dict(type='AverageKDLoss'),
        ).eval()
        for name, sign in (('vit', 9.0), ('cnn', -9.0)):
            distiller.teachers[name].recognizer.cls_head.register_forward_hook(
                lambda *_, sign=sign: sign * torch.eye(NUM_CLASSES)
            )
        for _ in range(5):
            losses = losses_of(distiller, batch(NUM_CLASSES))
        assert losses['trust/vit'] > 0.9 and losses['trust/cnn'] == 0
        assert float(losses['average/vit']) == pytest.approx(1, abs=1e-4)

    def test_both_are_on_by_default(self):
        distiller = MODELS.build(tiny_multi_teacher())
        log = train_step(distiller)
        assert {'trust/image', 'gradient/fusion'} <= log.keys()
        assert distiller.max_gradient_ratio == 1.0
        # Monitors are no part of the total.
        total = float(log['loss_cls'] + log['loss_fusion'])
        assert float(log['loss']) == pytest.approx(total, rel=1e-5)

    def test_a_large_weight_is_limited(self):
        options = dict(max_gradient_ratio=0.5)
        small, large = (
            train_step(
                build(
                    fusion_loss=dict(type='AEKDLoss', loss_weight=weight),
                    **options,
                )
            )
            for weight in (1e3, 1e6)
        )
        assert large['gradient/fusion'] > 0.5
        assert float(large['loss_fusion']) == pytest.approx(
            float(small['loss_fusion']), rel=1e-3
        )


class TestErrors:
    @pytest.mark.parametrize(
        'teachers, words',
        [
            ({}, 'model.teachers is empty'),
            ([], 'model.teachers='),
            ({'student': {}}, 'model.teachers.student'),
            ({'peer': {}}, 'model.teachers.peer'),
            ({'no loss': {}}, 'identifier'),
            ({'lossy': {}}, 'contains "loss"'),
        ],
    )
    def test_names_of_teachers(self, teachers, words):
        with pytest.raises((TypeError, ValueError), match=words):
            build(teachers=teachers)

    def test_an_unknown_teacher_of_a_loss(self):
        with pytest.raises(ValueError, match="'vti'.*'vit'"):
            build(losses=dict(kd=dict(type='KDLoss', teacher='vti')))

    @pytest.mark.parametrize('key', ['loss_sr', 'fusion_loss'])
    def test_a_loss_that_compares_with_one_teacher(self, key):
        config = dict(loss_sr=tiny_distiller, fusion_loss=tiny_multi_teacher)[
            key
        ](**{key: dict(type='KDLoss')})
        with pytest.raises(TypeError, match=f'model.{key}.type: KDLoss'):
            MODELS.build(config)

    def test_a_cache_cannot_classify(self):
        with pytest.raises(ValueError, match='model.fusion_loss.feature_wei'):
            build(
                fusion_loss=FUSIONS['camkd_feature'],
                teacher_cache='not/there',
            )

    def test_multi_label_heads(self):
        student = tiny_x3d()
        student['cls_head'].update(multi_class=True)
        with pytest.raises(ValueError, match='model.fusion_loss: AEKDLoss'):
            build(
                student=dict(cfg=student, view=VIEW),
                fusion_loss=dict(type='AEKDLoss'),
            )


def test_the_built_losses_are_those_of_the_config():
    distiller = build(fusion_loss=dict(type='AEKDLoss', tau=2.0, nu=0.5))
    (loss,) = distiller.fusion
    assert isinstance(loss, AEKDLoss)
    assert (loss.tau, loss.nu) == (2.0, 0.5)
