"""A teacher counts as much as it knows about the labels."""

from types import SimpleNamespace

import pytest
import torch
from mmaction.registry import MODELS
from tiny_models import NUM_CLASSES, batch, tiny_distiller

from dtkd_mmaction.distillers.teacher_trust import (
    TeacherTrust,
    accuracy_above_chance,
)
from dtkd_mmaction.losses import datw_weights
from dtkd_mmaction.recognizers.class_parts import ClassPart

ONE = [ClassPart('', 0, 0, 4)]


def answers(labels, wrong=0):
    """Logits of a teacher that is wrong on the first clips."""
    guesses = labels.clone().clamp(min=0)
    guesses[:wrong] = (guesses[:wrong] + 1) % 4
    return SimpleNamespace(logits=torch.nn.functional.one_hot(guesses, 4))


@pytest.mark.parametrize(
    'correct, seen, expected',
    [
        (1000.0, 1000.0, 1.0),
        (250.0, 1000.0, 0.0),  # chance
        (100.0, 1000.0, 0.0),  # below chance
        (625.0, 1000.0, 0.5),
        (0.0, 0.0, 1.0),  # nothing is known yet
    ],
)
def test_accuracy_above_chance(correct, seen, expected):
    found = accuracy_above_chance(
        torch.tensor([correct]), torch.tensor([seen]), 4
    )
    assert found.item() == pytest.approx(expected, abs=2e-3)


def test_counts_only_labelled_clips_and_goes_on():
    labels = torch.tensor([0, 1, 2, 3, -1, -1])
    trust = TeacherTrust(['good', 'bad'], ONE)
    teachers = dict(good=answers(labels), bad=answers(labels, wrong=4))
    for _ in range(5):
        found = trust(teachers, labels)
    assert trust.seen.item() == 20
    assert trust.correct.tolist() == [[20, 0]]
    assert found['good'] > 0.95
    assert found['bad'] == 0
    again = TeacherTrust(['good', 'bad'], ONE)
    again.load_state_dict(trust.state_dict())
    assert again(teachers, labels) == trust(teachers, labels)


def test_without_labels_every_teacher_is_trusted():
    labels = torch.full((4,), -1)
    found = TeacherTrust(['vit'], ONE)(dict(vit=answers(labels)), labels)
    assert found['vit'] == 1


def test_a_useless_teacher_has_no_weight_in_datw():
    generator = torch.Generator().manual_seed(0)
    student, good, bad = torch.randn(3, 8, 5, generator=generator).unbind()
    weights = datw_weights(
        student, [good, bad], tau=1.0, trust=torch.tensor([1.0, 0])
    )
    assert weights[:, 1].max() < 1e-3
    plain = datw_weights(student, [good, bad], tau=1.0)
    equal = datw_weights(
        student, [good, bad], tau=1.0, trust=torch.tensor([0.3, 0.3])
    )
    torch.testing.assert_close(plain, equal, atol=1e-4, rtol=1e-3)


def test_useless_teachers_switch_the_distillation_off():
    torch.manual_seed(0)
    distiller = MODELS.build(tiny_distiller(max_gradient_ratio=0))
    assert distiller.trust is not None
    distiller.trust.seen += 1000  # and never right
    data = distiller.data_preprocessor(batch(), training=True)
    losses = distiller(**data, mode='loss')
    for name in ('loss_sr', 'loss_sd', 'loss_rkd'):
        assert losses[name] == 0, name
    assert losses['trust/vit'] == losses['trust/cnn'] == 0
    assert losses['loss_cls'] > 0


def test_trusted_teachers_change_nothing():
    values = []
    for trust in (True, False):
        torch.manual_seed(0)
        distiller = MODELS.build(
            tiny_distiller(max_gradient_ratio=0, teacher_trust=trust)
        )
        if trust:
            distiller.trust.seen += 1e6
            distiller.trust.correct += 1e6
        torch.manual_seed(1)
        data = distiller.data_preprocessor(batch(), training=True)
        values.append(distiller(**data, mode='loss'))
    for name in ('loss_sr', 'loss_sd', 'loss_rkd'):
        torch.testing.assert_close(
            values[0][name], values[1][name], rtol=1e-3, atol=1e-5
        )


def test_paper_literal_trusts_everybody():
    distiller = MODELS.build(tiny_distiller(preset='paper_literal'))
    assert distiller.trust is None
    assert not distiller.max_gradient_ratio
    assert NUM_CLASSES > 1


def test_a_checkpoint_without_counts_loads():
    distiller = MODELS.build(tiny_distiller())
    state = {
        name: value
        for name, value in distiller.state_dict().items()
        if not name.startswith('trust.')
    }
    distiller.load_state_dict(state)
    assert distiller.trust.seen == 0
