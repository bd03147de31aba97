import math

import pytest
import torch
import torch.nn.functional as F

from dtkd_mmaction.losses import DATWLoss, datw_weights
from dtkd_mmaction.losses.datw import (
    CONFIDENCES,
    DISCREPANCIES,
    FUSIONS,
    SCORES,
    WEIGHT_NORMS,
    datw_loss,
    fused_log_probs,
    student_teacher_discrepancy,
    teacher_confidence,
)

# methods.md C1: teacher A is sure, teacher B is not.
SURE = torch.tensor([[math.log(9), 0, 0, 0]])
UNSURE = torch.tensor([[math.log(2), 0, 0, 0]])
STUDENT = torch.tensor([[0.0, 1, 0, 0]])


class TestC1SignOfTheConfidence:
    """The printed Eq. 4 prefers the unsure teacher."""

    def weight(self, **options):
        return float(
            datw_weights(
                STUDENT,
                [SURE, UNSURE],
                tau=1.0,
                discrepancy='raw_cosine',
                **options,
            )[0, 0]
        )

    def test_corrected(self):
        assert self.weight() == pytest.approx(0.910319, abs=1e-5)

    @pytest.mark.parametrize('norm', ['paper_ratio', 'ratio_sum_to_one'])
    def test_printed(self, norm):
        weight = self.weight(confidence='paper_literal', weight_norm=norm)
        assert weight == pytest.approx(0.385857, abs=1e-5)

    @pytest.mark.parametrize('tau, loss', [(1.0, 0.758997), (4.0, 0.703464)])
    def test_target_and_loss(self, tau, loss):
        weights = datw_weights(
            STUDENT, [SURE, UNSURE], tau=1.0, discrepancy='raw_cosine'
        )
        target = weights[0, 0] * SURE + weights[0, 1] * UNSURE
        assert torch.allclose(
            target, torch.tensor([[2.0623, 0, 0, 0]]), atol=1e-4
        )
        value = datw_loss(STUDENT, [SURE, UNSURE], weights, tau, 'logit')
        assert float(value) == pytest.approx(loss, abs=1e-5)


def test_c2_temperature_hides_confidence():
    logits = torch.zeros(1, 51)
    logits[0, 0] = 8
    for tau, expected in ((4.0, 0.035), (1.0, 0.962)):
        value = teacher_confidence(logits, tau, 'one_plus_negentropy')
        assert float(value) == pytest.approx(expected, abs=1e-3)


class TestC3Epsilon:
    def norm(self, scores, kind, eps):
        from dtkd_mmaction.losses.datw import normalise_scores

        return normalise_scores(torch.tensor([scores]), kind, eps)[0]

    def test_printed_ratio_breaks(self):
        weights = self.norm([-5e-4, -5e-4], 'paper_ratio', 1e-3)
        assert not torch.isfinite(weights).all() or weights.abs().max() > 1e3
        weights = self.norm([-4e-4, -5e-4], 'paper_ratio', 1e-3)
        assert weights.tolist() == pytest.approx([-4, -5], rel=1e-2)
        weights = self.norm([6e-8, 5e-8], 'paper_ratio', 1e-6)
        assert weights.tolist() == pytest.approx([0.054, 0.045], abs=1e-3)

    def test_corrected_ratio_falls_back_to_a_half(self):
        weights = self.norm([6e-8, 5e-8], 'ratio_sum_to_one', 1e-6)
        assert weights.tolist() == pytest.approx([0.5, 0.5], abs=0.01)
        weights = self.norm([0.0, 0.0], 'ratio_sum_to_one', 1e-6)
        assert weights.tolist() == [0.5, 0.5]


def test_c4_raw_cosine_depends_on_a_constant():
    one, other = torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 1]])
    for shift, expected in ((0, 1.0), (10, 0.0045), (-0.5, 2.0)):
        raw = student_teacher_discrepancy(
            one + shift, other + shift, 'raw_cosine'
        )
        assert float(raw) == pytest.approx(expected, abs=1e-4)
        centred = student_teacher_discrepancy(
            one + shift, other + shift, 'centred_cosine'
        )
        assert float(centred) == pytest.approx(2.0, abs=1e-4)


def test_c6_mixing_logits_is_a_geometric_mean():
    weights = torch.tensor([[0.2, 0.8]])
    mixed = fused_log_probs(
        [torch.tensor([[20.0, 0, 0]]), torch.tensor([[0, 4.0, 0]])],
        weights,
        1.0,
        'logit',
    ).exp()
    assert mixed[0].tolist() == pytest.approx([0.68, 0.31, 0.01], abs=0.01)
    teachers = [torch.tensor([[10.0, 0, 6]]), torch.tensor([[0, 10.0, 6]])]
    half = torch.full((1, 2), 0.5)
    assert fused_log_probs(teachers, half, 1.0, 'logit').exp()[
        0, 2
    ] == pytest.approx(0.58, abs=0.01)
    assert fused_log_probs(teachers, half, 1.0, 'prob').exp()[0, 2] < 0.02


def reference_weights(student, teachers, tau, score):
    """Eq. 4 to 6 sample by sample, corrected forms, in plain Python."""
    rows = []
    for b in range(len(student)):
        scores = []
        for logits in teachers:
            z, s = logits[b].tolist(), student[b].tolist()
            e = [math.exp(v / tau) for v in z]
            p = [v / sum(e) for v in e]
            c = 1 + sum(v * math.log(v) for v in p) / math.log(len(z))
            z = [v - sum(z) / len(z) for v in z]
            s = [v - sum(s) / len(s) for v in s]
            d = 1 - sum(a * b for a, b in zip(s, z)) / math.sqrt(
                sum(a * a for a in s) * sum(b * b for b in z)
            )
            scores.append(
                dict(product=c * d, confidence=c, discrepancy=d, uniform=1.0)[
                    score
                ]
            )
        total = sum(scores) + 1e-6
        rows.append([(v + 1e-6 / len(scores)) / total for v in scores])
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize('score', SCORES)
@pytest.mark.parametrize('count', [2, 3])
def test_weights_against_the_equations(score, count):
    torch.manual_seed(0)
    student, *teachers = torch.randn(1 + count, 6, 9, dtype=torch.float64) * 3
    weights = datw_weights(student, teachers, tau=4.0, score=score)
    expected = reference_weights(student, teachers, 4.0, score)
    assert torch.allclose(weights, expected, atol=1e-10)


@pytest.mark.parametrize('confidence', CONFIDENCES)
@pytest.mark.parametrize('discrepancy', DISCREPANCIES)
@pytest.mark.parametrize('weight_norm', WEIGHT_NORMS)
@pytest.mark.parametrize('fuse', FUSIONS)
def test_every_option_is_finite_and_ignores_class_order(
    confidence, discrepancy, weight_norm, fuse
):
    torch.manual_seed(0)
    student, vit, cnn = torch.randn(3, 5, 8) * 4
    order = torch.randperm(8)
    loss = DATWLoss(
        confidence=confidence,
        discrepancy=discrepancy,
        weight_norm=weight_norm,
        fuse=fuse,
    )
    value = loss(student, dict(vit=vit, cnn=cnn))
    swapped = loss(
        student[:, order], dict(cnn=cnn[:, order], vit=vit[:, order])
    )
    assert torch.isfinite(value)
    assert torch.allclose(value, swapped, rtol=1e-4)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize('case', ['zero', 'agree', 'identical'])
def test_weights_sum_to_one_in_degenerate_cases(case, dtype):
    torch.manual_seed(0)
    student, vit, cnn = torch.randn(3, 4, 6).to(dtype)
    if case == 'zero':
        student = torch.zeros_like(student)
    elif case == 'agree':
        vit = cnn = student
    else:
        cnn = vit
    weights = datw_weights(student, [vit, cnn])
    assert torch.isfinite(weights).all()
    assert (weights >= 0).all() and (weights <= 1).all()
    assert torch.allclose(weights.sum(1), torch.ones(4))
    if case != 'zero':
        assert torch.allclose(weights, torch.full_like(weights, 0.5))


def test_shift_invariance():
    torch.manual_seed(0)
    student, vit, cnn = torch.randn(3, 5, 7, dtype=torch.float64)
    loss = DATWLoss()
    before = loss(student, dict(vit=vit, cnn=cnn))
    after = loss(student + 3, dict(vit=vit - 8, cnn=cnn + 5))
    assert torch.allclose(before, after)


def test_target_is_constant_and_weights_are_by_choice():
    torch.manual_seed(0)
    data = torch.randn(3, 5, 7)
    gradients = []
    for detach in (True, False):
        student, vit, cnn = (x.clone().requires_grad_() for x in data)
        DATWLoss(detach_weights=detach)(
            student, dict(vit=vit, cnn=cnn)
        ).backward()
        assert vit.grad is None and cnn.grad is None
        gradients.append(student.grad)
    assert not torch.allclose(*gradients)
    # detached: exactly the gradient of KL to a fixed target
    student = data[0].clone().requires_grad_()
    weights = datw_weights(data[0], list(data[1:]))
    target = (weights.t()[..., None] * data[1:]).sum(0)
    (
        16
        * F.kl_div(
            F.log_softmax(student / 4, 1),
            F.softmax(target / 4, 1),
            reduction='batchmean',
        )
    ).backward()
    assert torch.allclose(student.grad, gradients[0], atol=1e-6)


def test_monitors_are_batch_means():
    torch.manual_seed(0)
    student, vit, cnn = torch.randn(3, 5, 7)
    loss = DATWLoss()
    loss(student, dict(vit=vit, cnn=cnn))
    weights = datw_weights(student, [vit, cnn])
    assert loss.monitors['datw/vit'] == weights[:, 0].mean()
    assert loss.monitors['datw/cnn'] == weights[:, 1].mean()
    assert len(loss.monitors) == 6
    assert not any('loss' in name for name in loss.monitors)


def test_presets_side_by_side():
    paper = DATWLoss.PRESETS['paper_literal']
    ours = DATWLoss.PRESETS['corrected']
    assert {k for k in ours if ours[k] != paper[k]} == {
        'confidence',
        'discrepancy',
        'weight_norm',
        'detach_weights',
    }
    loss = DATWLoss(preset='paper_literal', tau=2.0)
    assert loss.tau == 2.0
    assert loss.weight_options['weight_norm'] == 'paper_ratio'


@pytest.mark.parametrize(
    'options, error, message',
    [
        (dict(preset='paper'), ValueError, "'corrected', 'paper_literal'"),
        (
            dict(temperature=3),
            TypeError,
            r"no option \['temperature'\].*'tau'",
        ),
        (dict(score='both'), ValueError, "score='both'.*'product'"),
        (dict(fuse='max'), ValueError, "fuse='max'"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=message):
        DATWLoss(**options)
