"""Clips with the label -1: distilled, but in no label loss."""

import copy

import pytest
import torch
from mmaction.registry import MODELS
from tiny_models import batch, tiny_distiller, tiny_mvit, tiny_x3d


def build(**overrides):
    torch.manual_seed(0)
    plain = dict(teacher_trust=False, max_gradient_ratio=0)
    model = MODELS.build(tiny_distiller(**{**plain, **overrides}))
    # batch statistics would tie the rows of a batch together
    model.student.eval()
    return model


def losses_of(model, data):
    prepared = model.data_preprocessor(copy.deepcopy(data), training=True)
    return model(**prepared, mode='loss')


def with_labels(data, labels):
    data = copy.deepcopy(data)
    for sample, label in zip(data['data_samples'], labels):
        sample.set_gt_label(label)
    return data


def rows(data, wanted):
    return {key: [data[key][i] for i in wanted] for key in data}


def test_label_loss_is_that_of_the_labelled_clips():
    model, data = build(), batch()
    labels = [int(s.gt_label) for s in data['data_samples']]
    labels[1] = -1
    found = losses_of(model, with_labels(data, labels))
    wanted = [i for i, label in enumerate(labels) if label >= 0]
    alone = losses_of(model, rows(data, wanted))
    torch.testing.assert_close(found['loss_cls'], alone['loss_cls'])
    assert 'loss_by_feat' not in vars(model.student.cls_head)


def test_distillation_does_not_change():
    model, data = build(), batch()
    labelled = losses_of(model, data)
    labels = [-1] * len(data['data_samples'])
    unlabelled = losses_of(model, with_labels(data, labels))
    assert unlabelled['loss_cls'] == 0
    assert unlabelled['loss_cls'].requires_grad
    for name in ('loss_sr', 'loss_sd', 'loss_rkd'):
        torch.testing.assert_close(labelled[name], unlabelled[name])


def test_losses_that_read_labels_leave_them_out(logged):
    model = build(losses=dict(dkd=dict(type='DKDLoss', teacher='vit')))
    data = batch()
    labels = [int(s.gt_label) for s in data['data_samples']]
    labels[0] = -1
    changed = with_labels(data, labels)
    found = losses_of(model, changed)['loss_dkd']
    losses_of(model, changed)
    alone = losses_of(model, rows(data, range(1, len(labels))))['loss_dkd']
    torch.testing.assert_close(found, alone)
    assert logged().count('model.losses.dkd reads labels') == 1
    none = losses_of(model, with_labels(data, [-1] * len(labels)))
    assert none['loss_dkd'] == 0


def test_probe_leaves_them_out():
    model, data = build(loss_sd=dict(phi='probe')), batch()
    found = losses_of(model, with_labels(data, [-1] * len(data['inputs'])))
    assert torch.isfinite(found['loss_sd'])


def test_mixup_of_unlabelled_clips_is_refused():
    student = tiny_x3d()
    student['data_preprocessor']['blending'] = dict(
        type='MixupBlending', num_classes=4, alpha=0.2
    )
    spec = dict(tiny_distiller()['student'], cfg=student)
    model = build(student=spec)
    data = batch()
    with pytest.raises(ValueError, match='blending.*unlabelled'):
        losses_of(model, with_labels(data, [-1] * len(data['inputs'])))


def test_mutual_learning():
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='MutualLearningDistiller',
            student=dict(cfg=tiny_x3d()),
            peer=dict(cfg=tiny_mvit()),
        )
    )
    data = batch()
    found = losses_of(model, with_labels(data, [-1] * len(data['inputs'])))
    assert found['loss_cls'] == found['peer/loss_cls'] == 0
    assert found['loss_dml'] > 0
