"""Losses of a head with two questions, each with its classes alone."""

import torch
from mmaction.registry import MODELS
from mmengine.optim import OptimWrapper
from tiny_models import (
    FRAMES,
    SIZE,
    batch,
    tiny_distiller,
    tiny_mvit,
    tiny_x3d,
)

from dtkd_mmaction.distillers.class_parts import class_parts
from dtkd_mmaction.distillers.model_spec import (
    build_recognizer,
    load_config,
    load_weights,
)
from dtkd_mmaction.losses import DATWLoss, KDLoss


def test_an_ordinary_head_is_one_part_without_a_name():
    head = torch.nn.Linear(2, 4)
    (part,) = class_parts(head, 4)
    logits, mixed = torch.rand(3, 4), torch.rand(3, 4)
    assert part.suffix == ''
    assert torch.equal(part.logits_of(logits), logits)
    assert torch.equal(part.labels_of(mixed), mixed.argmax(dim=1))


def test_parts_split_logits_and_labels():
    head = torch.nn.Linear(2, 5)
    head.class_counts = dict(verb=2, noun=3)
    verb, noun = class_parts(head, 5)
    logits = torch.rand(4, 5)
    assert torch.equal(
        torch.cat([verb.logits_of(logits), noun.logits_of(logits)], dim=1),
        logits,
    )
    labels = torch.tensor([[1, 2], [0, 1]])
    assert noun.labels_of(labels).tolist() == [2, 1]
    assert (verb.suffix, noun.suffix) == ('_verb', '_noun')


def two_questions(model):
    """A tiny recognizer whose head answers verb (3) and noun (5)."""
    head = model['cls_head']
    head.pop('num_classes')
    model['cls_head'] = dict(
        type='VerbNounHead', num_classes=(3, 5), head=head
    )
    return model


def verb_noun_batch():
    data = batch(3)
    for i, sample in enumerate(data['data_samples']):
        sample.set_gt_label([i % 3, 4 - i])
        sample.set_metainfo(dict(sample_idx=i))
    return data


def distiller(**overrides):
    torch.manual_seed(0)
    view = dict(frames=FRAMES, size=SIZE)
    specs = dict(
        student=dict(cfg=two_questions(tiny_x3d()), view=view),
        vit_teacher=dict(
            cfg=two_questions(tiny_mvit()), checkpoint=None, view=view
        ),
        cnn_teacher=dict(
            cfg=two_questions(tiny_x3d(16)), checkpoint=None, view=view
        ),
    )
    return MODELS.build(tiny_distiller(**specs, **overrides)).eval()


def test_weights_and_temperature_are_those_of_each_part():
    model = distiller(losses=dict(kd=dict(type='KDLoss', teacher='vit')))
    logits = {}
    for name, recognizer in (
        ('student', model.student),
        ('vit', model.teachers['vit'].recognizer),
        ('cnn', model.teachers['cnn'].recognizer),
    ):
        recognizer.cls_head.register_forward_hook(
            lambda *args, name=name: logits.update({name: args[2]})
        )
    data = model.data_preprocessor(verb_noun_batch(), training=True)
    losses = model(**data, mode='loss')
    for part, classes in (('verb', slice(0, 3)), ('noun', slice(3, 8))):
        student, vit, cnn = (
            logits[name][:, classes] for name in ('student', 'vit', 'cnn')
        )
        assert torch.allclose(
            losses[f'loss_sr_{part}'],
            DATWLoss()(student, dict(vit=vit, cnn=cnn)),
        )
        assert torch.allclose(
            losses[f'loss_kd_{part}'], KDLoss()(student, vit)
        )
        assert f'datw/vit_{part}' in losses
    assert 'loss_sr' not in losses and 'loss_kd' not in losses
    assert {'loss_verb', 'loss_noun', 'loss_sd', 'loss_rkd'} <= set(losses)


def test_losses_that_read_no_logits_come_once():
    model = distiller(
        losses=dict(
            mgd=dict(type='MGDLoss', teacher='vit'),
            dkd=dict(type='DKDLoss', teacher='vit'),
            ofa=dict(type='OFALoss', teacher='cnn'),
        ),
        loss_sd=dict(phi='probe'),
    )
    logs = model.train_step(
        verb_noun_batch(),
        OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3)),
    )
    assert {k for k in logs if k.startswith('loss_')} == {
        'loss_verb',
        'loss_noun',
        'loss_sr_verb',
        'loss_sr_noun',
        'loss_sd',
        'loss_rkd',
        'loss_mgd',
        'loss_dkd_verb',
        'loss_dkd_noun',
        'loss_ofa_verb',
        'loss_ofa_noun',
    }


def test_a_stock_checkpoint_begins_all_but_the_last_layer(tmp_path):
    """X3D's hidden layer is trained on Kinetics, too."""
    stock = build_recognizer(load_config(dict(cfg=tiny_x3d()), 'm'), 'm')
    path = str(tmp_path / 'stock.pth')
    torch.save(dict(state_dict=stock.state_dict()), path)
    cfg = two_questions(tiny_x3d())
    ours = build_recognizer(load_config(dict(cfg=cfg), 'm'), 'm')
    load_weights(ours, path, 'model.student')
    assert torch.equal(
        ours.cls_head.head.fc1.weight, stock.cls_head.fc1.weight
    )
