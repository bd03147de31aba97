"""Heads that score every class by itself."""

import pytest
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from tiny_models import (
    NUM_CLASSES,
    batch,
    tiny_distiller,
    tiny_mvit,
    tiny_single_teacher,
    tiny_x3d,
)

from dtkd_mmaction.losses import SigmoidKDLoss

SAID = 'multi-label'


def multi_label(cfg, **head):
    head = head or dict(multi_class=True)
    loss = dict(type='BCELossWithLogits')
    return dict(cfg, cls_head=dict(cfg['cls_head'], loss_cls=loss, **head))


def single(losses, student=None, teacher=None):
    config = tiny_single_teacher(losses=losses)
    config['student']['cfg'] = student or multi_label(tiny_x3d())
    config['teacher']['cfg'] = teacher or multi_label(tiny_mvit())
    torch.manual_seed(0)
    return MODELS.build(config)


def dual(**options):
    config = tiny_distiller(**options)
    config['student']['cfg'] = multi_label(tiny_x3d())
    config['vit_teacher']['cfg'] = multi_label(tiny_mvit())
    config['cnn_teacher']['cfg'] = multi_label(tiny_x3d(16))
    return MODELS.build(config)


def losses_of(distiller):
    data = batch(3)
    data['data_samples'] = [
        ActionDataSample().set_gt_label(torch.tensor(label))
        for label in ([1.0, 1, 0, 0], [0.0, 1, 0, 1], [0.0, 0, 0, 0])
    ]
    data = distiller.data_preprocessor(data, training=True)
    return distiller(**data, mode='loss')


@pytest.mark.parametrize(
    'name', ['KDLoss', 'DKDLoss', 'DISTLoss', 'CTKDLoss', 'OFALoss']
)
def test_losses_with_a_softmax_are_refused(name):
    with pytest.raises(ValueError, match=rf'losses\.x: {name}.*{SAID}'):
        single(dict(x=dict(type=name)))


def test_so_are_losses_that_read_one_label():
    with pytest.raises(ValueError, match=rf'losses\.x: CRDLoss.*{SAID}'):
        single(dict(x=dict(type='CRDLoss', num_samples=9)))


def test_so_is_the_default_of_two_teachers():
    with pytest.raises(ValueError, match=rf'loss_sr: DATWLoss.*{SAID}'):
        dual()
    with pytest.raises(ValueError, match=rf'loss_sd.*probe.*{SAID}'):
        dual(loss_sr=None, loss_sd=dict(phi='probe'))


def test_so_is_mutual_learning():
    with pytest.raises(ValueError, match=SAID):
        MODELS.build(
            dict(
                type='MutualLearningDistiller',
                student=dict(cfg=multi_label(tiny_x3d())),
                peer=dict(cfg=multi_label(tiny_x3d())),
            )
        )


@pytest.mark.parametrize('head', [dict(multi_class=True), dict(in_channels=0)])
def test_either_sign_of_such_a_head_counts(head):
    head.pop('in_channels', None)
    with pytest.raises(ValueError, match=SAID):
        single(
            dict(kd=dict(type='KDLoss')),
            student=multi_label(tiny_x3d(), **head),
        )


def test_a_teacher_with_another_kind_of_head():
    distiller = single(
        dict(kd=dict(type='SigmoidKDLoss')), teacher=tiny_mvit()
    )
    with pytest.raises(ValueError, match=rf'model\.teacher and.*{SAID}'):
        distiller.build_teachers()


def test_the_sigmoid_loss_trains():
    distiller = single(
        dict(
            kd=dict(type='SigmoidKDLoss', loss_weight=2.0),
            rkd=dict(type='RKDLoss'),
        )
    )
    logits = {}
    for name, model in (
        ('student', distiller.student),
        ('teacher', distiller.teachers['teacher'].recognizer),
    ):
        model.cls_head.register_forward_hook(
            lambda *args, name=name: logits.update({name: args[2]})
        )
    losses = losses_of(distiller)
    assert logits['student'].shape == (3, NUM_CLASSES)
    assert torch.equal(
        losses['loss_kd'],
        SigmoidKDLoss(2.0)(logits['student'], logits['teacher']),
    )
    losses['loss_kd'].backward()
    assert distiller.student.cls_head.fc2.weight.grad.abs().sum() > 0


def test_features_of_two_teachers_train():
    sigmoid = dict(type='SigmoidKDLoss', teacher='vit')
    losses = losses_of(dual(loss_sr=None, losses=dict(kd=sigmoid)))
    assert {name for name in losses if 'loss' in name} == {
        'loss_cls',
        'loss_sd',
        'loss_rkd',
        'loss_kd',
    }
