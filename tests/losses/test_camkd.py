import numpy as np
import pytest
import torch
import torch.nn as nn
from mmengine.logging import MessageHub
from teacher_logits import kd_per_sample, random_logits, softmax

from dtkd_mmaction.losses import CAMKDLoss, camkd_weights
from dtkd_mmaction.losses.camkd import camkd_feature_loss

LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


@pytest.fixture
def epoch():
    """Sets the epoch of the message hub, counted from 1."""
    hub = MessageHub.get_current_instance()
    before = hub.get_info('epoch', 0)
    yield lambda number: hub.update_info('epoch', number - 1)
    hub.update_info('epoch', before)


def reference(teachers, labels):
    rows = []
    for b, label in enumerate(labels.tolist()):
        errors = np.array(
            [-np.log(softmax(t[b].numpy())[label]) for t in teachers.values()]
        )
        rows.append((1 - softmax(errors)) / (len(errors) - 1))
    return np.array(rows)


@pytest.mark.parametrize('count', [2, 3, 4])
def test_against_the_equation(count):
    student, teachers = random_logits(count)
    weights = camkd_weights(list(teachers.values()), LABELS)
    assert np.allclose(
        weights.numpy(), reference(teachers, LABELS), rtol=1e-10
    )
    assert np.allclose(weights.sum(1).numpy(), 1)
    value = CAMKDLoss(loss_weight=2.0, tau=3.0)(student, teachers, LABELS)
    terms = reference(teachers, LABELS) * kd_per_sample(student, teachers, 3.0)
    assert float(value) == pytest.approx(
        2 * terms.sum() / (6 * count), rel=1e-10
    )


def test_two_teachers_are_a_softmax_of_minus_the_error():
    _, teachers = random_logits(2)
    errors = torch.stack(
        [
            nn.functional.cross_entropy(t, LABELS, reduction='none')
            for t in teachers.values()
        ],
        1,
    )
    assert torch.allclose(
        camkd_weights(list(teachers.values()), LABELS),
        (-errors).softmax(dim=1),
    )


def test_prefers_the_right_teacher_however_sure_the_wrong_one_is():
    right, wrong = torch.eye(5), 9 * torch.eye(5).roll(1, 0)
    weights = camkd_weights([right, wrong, wrong], torch.arange(5))
    assert (weights[:, 0] > 0.49).all()
    assert torch.allclose(weights[:, 1], weights[:, 2])


def test_an_unlabelled_clip_has_equal_weights():
    _, teachers = random_logits(3)
    labels = LABELS.clone()
    labels[2] = -1
    weights = camkd_weights(list(teachers.values()), labels)
    assert torch.allclose(
        weights[2], torch.full((3,), 1 / 3, dtype=torch.float64)
    )
    others = [0, 1, 3, 4, 5]
    assert torch.equal(
        weights[others],
        camkd_weights([t[others] for t in teachers.values()], labels[others]),
    )


def test_soft_labels():
    _, teachers = random_logits(2)
    logits = list(teachers.values())
    one_hot = nn.functional.one_hot(LABELS, 5).double()
    assert torch.allclose(
        camkd_weights(logits, one_hot), camkd_weights(logits, LABELS)
    )
    mixed = 0.5 * one_hot + 0.5 * one_hot.roll(1, 0)
    assert not torch.allclose(
        camkd_weights(logits, mixed), camkd_weights(logits, LABELS)
    )


def test_needs_labels():
    student, teachers = random_logits(2)
    with pytest.raises(ValueError, match='CAMKDLoss needs the labels'):
        CAMKDLoss()(student, teachers)


class TestFeatureTerm:
    """The student's features in the space of each teacher."""

    WIDTHS = dict(t0=4, t1=7)

    def case(self, **options):
        torch.manual_seed(0)
        loss = CAMKDLoss(
            feature_weight=2.0,
            student_width=3,
            teacher_widths=self.WIDTHS,
            **options,
        ).double()
        student, teachers = random_logits(2)
        classifiers = {
            name: nn.Linear(width, 5).double()
            for name, width in self.WIDTHS.items()
        }
        extra = dict(
            student_embedding=torch.randn(6, 3, dtype=torch.float64),
            teacher_embeddings={
                name: torch.randn(6, width, dtype=torch.float64)
                for name, width in self.WIDTHS.items()
            },
            teacher_classifiers=classifiers,
        )
        return loss, student, teachers, extra

    def test_against_a_loop(self, epoch):
        epoch(2)
        loss, student, teachers, extra = self.case(loss_weight=3.0)
        with torch.no_grad():
            value = loss(student, teachers, LABELS, **extra)
            plain = 3 * CAMKDLoss()(student, teachers, LABELS)
            projected = {
                name: layer(extra['student_embedding']).numpy()
                for name, layer in loss.projections.items()
            }
            judged = {
                name: extra['teacher_classifiers'][name](torch.tensor(x))
                for name, x in projected.items()
            }
        weights = reference(judged, LABELS)
        total = 0.0
        for k, name in enumerate(self.WIDTHS):
            theirs = extra['teacher_embeddings'][name].numpy()
            for b in range(6):
                error = np.mean((projected[name][b] - theirs[b]) ** 2)
                total += weights[b, k] * error
        expected = float(plain) + 3 * 2 * total / (6 * 2)
        assert float(value) == pytest.approx(expected, rel=1e-9)
        assert float(loss.monitors['camkd_feature/t1']) == pytest.approx(
            weights[:, 1].mean()
        )

    def test_begins_in_the_second_epoch(self, epoch):
        values = []
        for number in (1, 2):
            epoch(number)
            loss, student, teachers, extra = self.case()
            value = loss(student, teachers, LABELS, **extra)
            value.backward()
            values.append(float(value.detach()))
            # In the graph from the start, for distributed training.
            gradients = [p.grad for p in loss.parameters()]
            assert all(g is not None for g in gradients)
            moves = any(bool(g.abs().sum() > 0) for g in gradients)
            assert moves == (number == 2)
        plain = float(CAMKDLoss()(student, teachers, LABELS))
        assert values[0] == pytest.approx(plain)
        assert values[1] > plain

    def test_no_gradient_reaches_the_classifiers(self, epoch):
        epoch(2)
        loss, student, teachers, extra = self.case()
        loss(student, teachers, LABELS, **extra).backward()
        for classifier in extra['teacher_classifiers'].values():
            assert all(p.grad is None for p in classifier.parameters())

    def test_says_what_is_missing(self):
        with pytest.raises(ValueError, match='needs student_width'):
            CAMKDLoss(feature_weight=1.0)
        loss, student, teachers, _ = self.case()
        with pytest.raises(ValueError, match='features and classifiers'):
            loss(student, teachers, LABELS)

    def test_half_precision(self):
        weights = torch.full((2, 1), 0.5)
        large = torch.full((2, 4), 300.0, dtype=torch.float16)
        value = camkd_feature_loss([large], [-large], weights)
        assert float(value) == pytest.approx(0.5 * 600**2)
