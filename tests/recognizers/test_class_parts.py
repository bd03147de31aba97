"""Losses of a head with two questions, each with its classes alone."""

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.optim import OptimWrapper
from tiny_models import (
    FRAMES,
    SIZE,
    tiny_distiller,
    tiny_mvit,
    tiny_single_teacher,
    tiny_x3d,
    two_questions,
    verb_noun_batch,
)

from dtkd_mmaction.losses import DATWLoss, KDLoss
from dtkd_mmaction.recognizers.class_parts import class_parts
from dtkd_mmaction.recognizers.model_spec import (
    build_recognizer,
    load_config,
    load_weights,
)


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
    plain = dict(teacher_trust=False, max_gradient_ratio=0)
    return MODELS.build(
        tiny_distiller(**{**plain, **specs, **overrides})
    ).eval()


def losses_and_logits(model):
    """Losses of a batch, and the logits of the models in it, by name."""
    logits = {}
    models = dict(student=model.student)
    if hasattr(model, 'peer'):
        models['peer'] = model.peer
    for name in model.teacher_specs:
        models[name] = model.teachers[name].recognizer
    for name, recognizer in models.items():
        recognizer.cls_head.register_forward_hook(
            lambda *args, name=name: logits.update({name: args[2]})
        )
    data = model.data_preprocessor(verb_noun_batch(), training=True)
    return model(**data, mode='loss'), logits


CLASSES = dict(verb=slice(0, 3), noun=slice(3, 8))


def test_weights_and_temperature_are_those_of_each_part():
    model = distiller(losses=dict(kd=dict(type='KDLoss', teacher='vit')))
    losses, logits = losses_and_logits(model)
    for part, classes in CLASSES.items():
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


def test_a_part_can_have_a_temperature_of_its_own():
    options = dict(tau=3.0, parts=dict(noun=dict(tau=1.5, loss_weight=0.5)))
    model = distiller(
        loss_sr=options,
        losses=dict(kd=dict(type='KDLoss', teacher='vit', **options)),
    )
    losses, logits = losses_and_logits(model)
    for part, own in (
        ('verb', dict(tau=3.0)),
        ('noun', dict(tau=1.5, loss_weight=0.5)),
    ):
        student, vit, cnn = (
            logits[name][:, CLASSES[part]]
            for name in ('student', 'vit', 'cnn')
        )
        assert torch.allclose(
            losses[f'loss_sr_{part}'],
            DATWLoss(**own)(student, dict(vit=vit, cnn=cnn)),
        )
        assert torch.allclose(
            losses[f'loss_kd_{part}'], KDLoss(**own)(student, vit)
        )


def test_a_part_that_the_head_has_not():
    options = dict(parts=dict(adverb=dict(tau=2.0)))
    with pytest.raises(ValueError, match="loss_sr.parts names .'adverb'"):
        distiller(loss_sr=options)
    with pytest.raises(ValueError, match='losses.kd.parts.*has no parts'):
        MODELS.build(
            tiny_single_teacher(losses=dict(kd=dict(type='KDLoss', **options)))
        )


def mutual_learning(student, peer):
    view = dict(frames=FRAMES, size=SIZE)
    return MODELS.build(
        dict(
            type='MutualLearningDistiller',
            student=dict(cfg=student, view=view),
            peer=dict(cfg=peer, view=view),
        )
    ).eval()


def test_mutual_learning_has_a_softmax_for_each_part():
    torch.manual_seed(0)
    model = mutual_learning(
        two_questions(tiny_x3d()), two_questions(tiny_mvit())
    )
    losses, logits = losses_and_logits(model)
    for part, classes in CLASSES.items():
        own, other = (logits[n][:, classes] for n in ('student', 'peer'))
        for name, pair in (('', (own, other)), ('peer/', (other, own))):
            assert torch.allclose(
                losses[f'{name}loss_dml_{part}'], KDLoss(tau=1.0)(*pair)
            )
    assert 'loss_dml' not in losses


def test_simkd_predicts_each_part_as_the_teacher_does():
    torch.manual_seed(0)
    view = dict(frames=FRAMES, size=SIZE)
    student = two_questions(tiny_x3d())
    student['cls_head']['head']['average_clips'] = 'prob'
    teacher = two_questions(tiny_mvit())
    model = MODELS.build(
        dict(
            type='SimKDDistiller',
            student=dict(cfg=student, view=view),
            teacher=dict(cfg=teacher, checkpoint=None, view=view),
        )
    ).eval()
    losses, _ = losses_and_logits(model)
    assert set(losses) == {'loss_simkd'}
    for sample in model.test_step(verb_noun_batch()):
        assert sample.pred_label.shape == (2,)
        for classes in CLASSES.values():
            assert sample.pred_score[classes].sum().item() == pytest.approx(1)


def test_models_with_other_parts_do_not_go_together():
    """Their logits are equally many."""
    stock = tiny_mvit()
    stock['cls_head']['num_classes'] = 8
    swapped = two_questions(tiny_mvit())
    swapped['cls_head']['num_classes'] = (5, 3)
    with pytest.raises(ValueError, match="vit_teacher.*{'classes': 8}"):
        distiller(
            vit_teacher=dict(cfg=stock, checkpoint=None)
        ).build_teachers()
    with pytest.raises(ValueError, match="model.peer.*{'verb': 5, 'noun': 3}"):
        mutual_learning(two_questions(tiny_x3d()), swapped)


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


@pytest.mark.parametrize(
    'loss',
    [
        dict(type='KDLoss'),
        dict(type='KDLoss', standardise=True),
        dict(type='DKDLoss'),
        dict(type='DISTLoss'),
        dict(type='CTKDLoss'),
        dict(type='OFALoss'),
    ],
    ids=str,
)
def test_every_loss_on_logits_sees_the_classes_of_its_part(loss):
    """Other logits of one part change the loss of that part only."""
    model = distiller(
        loss_sr=None,
        loss_sd=None,
        loss_rkd=None,
        losses=dict(it=dict(loss, teacher='vit')),
    )
    data = model.data_preprocessor(verb_noun_batch(), training=True)
    found = []
    for scale in (1.0, 3.0):
        handle = model.teachers[
            'vit'
        ].recognizer.cls_head.register_forward_hook(
            lambda module, args, logits, scale=scale: torch.cat(
                [logits[:, :3], scale * logits[:, 3:].cumsum(1)], dim=1
            )
        )
        found.append(model(**data, mode='loss'))
        handle.remove()
    assert found[0]['loss_it_verb'] == found[1]['loss_it_verb']
    assert found[0]['loss_it_noun'] != found[1]['loss_it_noun']


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
