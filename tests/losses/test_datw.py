"""DATW (Eq. 3 to 7) against the vectors of the notes and plain loops."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from dtkd_mmaction.losses import DATWLoss, datw_loss, datw_weights
from dtkd_mmaction.losses.datw import (
    CONFIDENCES,
    DISCREPANCIES,
    FUSIONS,
    SCORES,
    WEIGHT_NORMS,
    fused_log_probs,
    normalise_scores,
    student_teacher_discrepancy,
    teacher_confidence,
)

# methods.md C1: teacher A is sure, teacher B is not.
SURE = torch.tensor([[math.log(9), 0, 0, 0]])
UNSURE = torch.tensor([[math.log(2), 0, 0, 0]])
STUDENT = torch.tensor([[0.0, 1, 0, 0]])


def logits(count, batch=5, classes=7, scale=3.0, seed=0):
    """``count`` float64 logits of (batch, classes)."""
    torch.manual_seed(seed)
    return (
        scale * torch.randn(count, batch, classes, dtype=torch.float64)
    ).unbind()


# ---------------------------------------------------------------------------
# The equations in plain Python, one sample at a time.


def softmax(z, tau=1.0):
    e = [math.exp(v / tau) for v in z]
    return [v / sum(e) for v in e]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q))


def mean(values):
    return sum(values) / len(values)


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def centred(z):
    return [v - mean(z) for v in z]


def standardised(z):
    deviation = math.sqrt(sum(v * v for v in centred(z)) / (len(z) - 1))
    return [v / (deviation + 1e-7) for v in centred(z)]


def confidence_of(z, tau, kind):
    p = softmax(z, tau)
    entropy = -sum(v * math.log(v) for v in p)
    return dict(
        one_plus_negentropy=1 - entropy / math.log(len(p)),
        paper_literal=-entropy / math.log(len(p)),
        max_prob=max(p),
        exp_neg_entropy=math.exp(-entropy),
        margin=sorted(p)[-1] - sorted(p)[-2],
    )[kind]


def discrepancy_of(s, z, tau, kind):
    if kind == 'raw_cosine':
        return 1 - cosine(s, z)
    if kind == 'centred_cosine':
        return 1 - cosine(centred(s), centred(z))
    p, q = softmax(s, tau), softmax(z, tau)
    if kind == 'prob_cosine':
        return 1 - cosine(p, q)
    middle = [(a + b) / 2 for a, b in zip(p, q)]
    return (kl(p, middle) + kl(q, middle)) / (2 * math.log(2))


def weights_of(scores, kind, eps):
    if kind == 'softmax':
        return softmax(scores)
    if kind == 'paper_ratio':
        return [v / (sum(scores) + eps) for v in scores]
    scores = [abs(v) for v in scores]
    share = eps / len(scores)
    return [(v + share) / (sum(scores) + eps) for v in scores]


def loss_of(s, teachers, weights, tau, fuse):
    q = softmax(s, tau)
    if fuse == 'loss':
        return tau**2 * sum(
            w * kl(softmax(z, tau), q) for w, z in zip(weights, teachers)
        )
    if fuse == 'prob':
        p = [
            sum(w * v for w, v in zip(weights, column)) / sum(weights)
            for column in zip(*(softmax(z, tau) for z in teachers))
        ]
    else:
        if fuse == 'standardised_logit':
            teachers = [standardised(z) for z in teachers]
        p = softmax(
            [
                sum(w * v for w, v in zip(weights, column))
                for column in zip(*teachers)
            ],
            tau,
        )
    return tau**2 * kl(p, q)


def reference(student, teachers, options):
    """Weights and loss of a batch from the functions above."""
    rows, losses = [], []
    for s, *zs in zip(student.tolist(), *(t.tolist() for t in teachers)):
        scores = []
        for z in zs:
            c = confidence_of(
                z,
                options['conf_temperature'] or options['tau'],
                options['confidence'],
            )
            d = discrepancy_of(s, z, options['tau'], options['discrepancy'])
            scores.append(
                dict(product=c * d, confidence=c, discrepancy=d, uniform=1.0)[
                    options['score']
                ]
            )
        rows.append(weights_of(scores, options['weight_norm'], options['eps']))
        losses.append(
            loss_of(s, zs, rows[-1], options['tau'], options['fuse'])
        )
    return torch.tensor(rows, dtype=torch.float64), mean(losses)


def written(**options):
    """The default options with some replaced."""
    return dict(DATWLoss.PRESETS['corrected'], **options)


VARIATIONS = [
    dict(),
    dict(tau=1.0),
    dict(conf_temperature=1.0),
    dict(eps=0.1),
    *(dict(score=v) for v in SCORES),
    *(dict(confidence=v) for v in CONFIDENCES),
    *(dict(discrepancy=v) for v in DISCREPANCIES),
    *(dict(weight_norm=v) for v in WEIGHT_NORMS),
    *(dict(fuse=v) for v in FUSIONS),
    dict(fuse='prob', weight_norm='paper_ratio', eps=0.5),
    dict(DATWLoss.PRESETS['paper_literal']),
]


@pytest.mark.parametrize('options', VARIATIONS, ids=str)
@pytest.mark.parametrize('count', [2, 3])
def test_every_option_against_the_equations(options, count):
    student, *teachers = logits(1 + count)
    options = written(**options)
    rows, expected = reference(student, teachers, options)
    named = {str(k): t for k, t in enumerate(teachers)}
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        loss = DATWLoss(**options)
        value = loss(
            student.to(dtype), {k: t.to(dtype) for k, t in named.items()}
        )
        assert float(value) == pytest.approx(expected, rel=tolerance)
        weights = datw_weights(
            student.to(dtype),
            [t.to(dtype) for t in teachers],
            **loss.weight_options,
        )
        assert torch.allclose(
            weights.double(), rows, rtol=tolerance, atol=tolerance
        )


# ---------------------------------------------------------------------------
# The vectors of the notes.


class TestC1SignOfTheConfidence:
    """The printed Eq. 4 prefers the unsure teacher."""

    def weight(self, **options):
        options = dict(dict(tau=1.0, discrepancy='raw_cosine'), **options)
        return float(datw_weights(STUDENT, [SURE, UNSURE], **options)[0, 0])

    def test_discrepancies_are_equal(self):
        for kind, expected in (('raw_cosine', 1.0), ('centred_cosine', 4 / 3)):
            for teacher in (SURE, UNSURE):
                value = student_teacher_discrepancy(STUDENT, teacher, kind)
                assert float(value) == pytest.approx(expected)

    def test_corrected(self):
        assert self.weight() == pytest.approx(0.910319, abs=1e-5)

    def test_corrected_at_the_default_temperature(self):
        assert self.weight(tau=4.0) == pytest.approx(0.9173, abs=1e-4)

    @pytest.mark.parametrize('norm', ['paper_ratio', 'ratio_sum_to_one'])
    def test_printed(self, norm):
        weight = self.weight(confidence='paper_literal', weight_norm=norm)
        assert weight == pytest.approx(0.385857, abs=1e-5)

    def test_softmax_repairs_the_confidence_alone(self):
        """A softmax over printed scores inverts the discrepancy instead."""
        printed = dict(confidence='paper_literal', weight_norm='softmax')
        assert self.weight(score='confidence', **printed) > 0.5
        near, far = STUDENT + 0.1 * SURE, SURE  # as sure, nearer the student
        weights = datw_weights(
            STUDENT,
            [far, near],
            tau=1.0,
            conf_temperature=1e6,  # both confidences are -1
            **printed,
        )
        assert weights[0, 0] < 0.5

    @pytest.mark.parametrize('tau, loss', [(1.0, 0.758997), (4.0, 0.703464)])
    def test_target_and_loss(self, tau, loss):
        """The weights are those of tau = 1 in both."""
        form = dict(discrepancy='centred_cosine')
        weights = datw_weights(STUDENT, [SURE, UNSURE], tau=1.0, **form)
        target = weights[0, 0] * SURE + weights[0, 1] * UNSURE
        assert torch.allclose(
            target, torch.tensor([[2.0623, 0, 0, 0]]), atol=1e-4
        )
        value = datw_loss(STUDENT, [SURE, UNSURE], weights, tau, 'logit')
        assert float(value) == pytest.approx(loss, abs=1e-5)
        whole = DATWLoss(tau=tau, conf_temperature=1.0, **form)
        value = whole(STUDENT, dict(vit=SURE, cnn=UNSURE))
        assert float(value) == pytest.approx(loss, abs=1e-5)


class TestC2TemperatureInTheConfidence:
    def test_hides_confidence(self):
        z = torch.zeros(1, 51)
        z[0, 0] = 8
        for tau, expected in ((4.0, 0.0355), (1.0, 0.9622)):
            value = teacher_confidence(z, tau, 'one_plus_negentropy')
            assert float(value) == pytest.approx(expected, abs=1e-4)

    def test_great_temperature_measures_the_variance_of_logits(self):
        (z,) = logits(1)
        value = teacher_confidence(z, 1e3, 'one_plus_negentropy')
        variance = z.var(dim=1, unbiased=False)
        expected = variance / (2 * 1e6 * math.log(z.shape[1]))
        assert torch.allclose(value, expected, rtol=1e-2)

    def test_has_an_option_of_its_own(self):
        student, vit, cnn = logits(3)
        assert torch.equal(
            datw_weights(student, [vit, cnn], conf_temperature=4.0),
            datw_weights(student, [vit, cnn]),
        )
        assert not torch.allclose(
            datw_weights(student, [vit, cnn], conf_temperature=1.0),
            datw_weights(student, [vit, cnn]),
        )


class TestC3Epsilon:
    def norm(self, scores, kind, eps):
        scores = torch.tensor([scores], dtype=torch.float64)
        return normalise_scores(scores, kind, eps)[0].tolist()

    def test_printed_ratio_breaks_on_negative_scores(self):
        weights = self.norm([-5e-4, -5e-4], 'paper_ratio', 1e-3)
        assert all(math.isinf(w) or abs(w) > 1e12 for w in weights)
        weights = self.norm([-4e-4, -5e-4], 'paper_ratio', 1e-3)
        assert weights == pytest.approx([-4, -5])

    def test_printed_ratio_fades_where_the_student_agrees(self):
        weights = self.norm([6e-8, 5e-8], 'paper_ratio', 1e-6)
        assert weights == pytest.approx([0.054, 0.045], abs=1e-3)
        # so the target is almost uniform, whatever the teachers say
        student, vit, cnn = logits(3, scale=1.0)
        target = fused_log_probs(
            [vit, cnn], torch.tensor([weights] * 5), 4.0, 'logit'
        )
        assert (target.exp() - 1 / 7).abs().max() < 0.01

    def test_corrected_ratio_falls_back_to_a_half(self):
        weights = self.norm([6e-8, 5e-8], 'ratio_sum_to_one', 1e-6)
        assert weights == pytest.approx([0.5045, 0.4955], abs=1e-4)
        for eps in (1e-6, 1e-3):
            weights = self.norm([0.0, 0.0], 'ratio_sum_to_one', eps)
            assert weights == [0.5, 0.5]

    def test_corrected_ratio_of_printed_scores(self):
        """Negative alike: the ratio of the magnitudes, without the pole."""
        weights = self.norm([-5e-4, -5e-4], 'ratio_sum_to_one', 1e-3)
        assert weights == [0.5, 0.5]


class TestC4CosineOfRawLogits:
    @pytest.mark.parametrize(
        'shift, raw', [(0, 1.0), (10, 0.0045), (-0.5, 2.0)]
    )
    def test_depends_on_a_constant(self, shift, raw):
        one, other = torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 1]])
        for kind, expected in (('raw_cosine', raw), ('centred_cosine', 2.0)):
            value = student_teacher_discrepancy(
                one + shift, other + shift, kind
            )
            assert float(value) == pytest.approx(expected, abs=1e-4)

    def test_is_one_less_pearson(self):
        student, teacher = logits(2)
        value = student_teacher_discrepancy(student, teacher, 'centred_cosine')
        expected = [
            1 - torch.corrcoef(torch.stack(pair))[0, 1]
            for pair in zip(student, teacher)
        ]
        assert torch.allclose(value, torch.stack(expected), atol=1e-12)

    @pytest.mark.parametrize('kind', ['raw_cosine', 'centred_cosine'])
    def test_zero_logits_count_as_orthogonal(self, kind):
        """The printed formula is 0 / 0."""
        student = torch.zeros(2, 4, requires_grad=True)
        value = student_teacher_discrepancy(student, torch.randn(2, 4), kind)
        assert torch.equal(value.detach(), torch.ones(2))
        value.sum().backward()
        assert torch.isfinite(student.grad).all()

    @pytest.mark.parametrize('kind', DISCREPANCIES)
    def test_range(self, kind):
        student, teacher = (x.float() for x in logits(2, 64, scale=20.0))
        upper = 2 if kind in ('raw_cosine', 'centred_cosine') else 1
        for other in (teacher, student, -student):
            value = student_teacher_discrepancy(student, other, kind)
            assert (value >= 0).all() and (value <= upper + 1e-6).all()
        same = student_teacher_discrepancy(student, student, kind)
        assert (same < 1e-6).all()


@pytest.mark.parametrize('kind', CONFIDENCES)
def test_range_of_the_confidence(kind):
    sure = 1e3 * torch.eye(6)
    unsure = torch.zeros(6, 6)
    best, worst = (teacher_confidence(z, 4.0, kind) for z in (sure, unsure))
    lowest = dict(
        one_plus_negentropy=0,
        paper_literal=-1,
        max_prob=1 / 6,
        exp_neg_entropy=1 / 6,
        margin=0,
    )[kind]
    highest = 0 if kind == 'paper_literal' else 1
    assert torch.allclose(worst, torch.full((6,), float(lowest)), atol=1e-6)
    assert torch.allclose(best, torch.full((6,), float(highest)), atol=1e-6)


class TestC5GradientThroughTheWeights:
    def gradient(self, data, **options):
        student, vit, cnn = (x.clone().requires_grad_() for x in data)
        DATWLoss(**options)(student, dict(vit=vit, cnn=cnn)).backward()
        assert vit.grad is None and cnn.grad is None
        return student.grad

    def test_detached_is_kl_to_a_fixed_target(self):
        data = logits(3)
        student = data[0].clone().requires_grad_()
        weights = datw_weights(data[0], data[1:])
        target = sum(w[:, None] * z for w, z in zip(weights.t(), data[1:]))
        (
            16
            * F.kl_div(
                F.log_softmax(student / 4, 1),
                F.softmax(target / 4, 1),
                reduction='batchmean',
            )
        ).backward()
        assert torch.allclose(student.grad, self.gradient(data), atol=1e-12)

    @pytest.mark.parametrize('fuse', FUSIONS)
    def test_detach_weights_changes_the_gradient_alone(self, fuse):
        data = logits(3)
        first, second = (
            self.gradient(data, fuse=fuse, detach_weights=detach)
            for detach in (True, False)
        )
        assert not torch.allclose(first, second)
        values = [
            DATWLoss(fuse=fuse, detach_weights=detach)(
                data[0], dict(vit=data[1], cnn=data[2])
            )
            for detach in (True, False)
        ]
        assert torch.equal(*values)

    @pytest.mark.parametrize('fuse', FUSIONS)
    @pytest.mark.parametrize('discrepancy', DISCREPANCIES)
    def test_gradient_is_that_of_the_value(self, fuse, discrepancy):
        student, vit, cnn = logits(3, batch=2, classes=4)
        loss = DATWLoss(
            fuse=fuse, discrepancy=discrepancy, detach_weights=False
        )
        student.requires_grad_()
        assert torch.autograd.gradcheck(
            lambda s: loss(s, dict(vit=vit, cnn=cnn)), (student,)
        )


class TestC6Fusion:
    def test_the_larger_scale_wins_against_the_weight(self):
        teachers = [torch.tensor([[20.0, 0, 0]]), torch.tensor([[0, 4.0, 0]])]
        weights = torch.tensor([[0.2, 0.8]])
        mixed = fused_log_probs(teachers, weights, 1.0, 'logit').exp()
        assert mixed[0].tolist() == pytest.approx([0.68, 0.31, 0.01], abs=0.01)
        for fuse in ('prob', 'standardised_logit'):
            mixed = fused_log_probs(teachers, weights, 1.0, fuse)
            assert mixed.argmax() == 1

    def test_mixing_logits_is_a_geometric_mean(self):
        half = torch.full((1, 2), 0.5)
        pair = [torch.tensor([[10.0, 0, 5]]), torch.tensor([[0, 10.0, 5]])]
        mixed = fused_log_probs(pair, half, 1.0, 'logit').exp()
        assert mixed[0].tolist() == pytest.approx([1 / 3] * 3)
        pair = [torch.tensor([[10.0, 0, 6]]), torch.tensor([[0, 10.0, 6]])]
        mixed = fused_log_probs(pair, half, 1.0, 'logit').exp()
        assert mixed[0, 2] == pytest.approx(0.58, abs=0.005)
        mixed = fused_log_probs(pair, half, 1.0, 'prob').exp()
        assert mixed[0, 2] < 0.02

    @pytest.mark.parametrize('fuse', ['logit', 'prob', 'standardised_logit'])
    @pytest.mark.parametrize('row', [[0.3, 0.7], [0.05, 0.04], [0.0, 0.0]])
    def test_the_target_is_a_distribution(self, fuse, row):
        weights = torch.tensor([row] * 5, dtype=torch.float64)
        weights.requires_grad_()
        target = fused_log_probs(logits(2), weights, 4.0, fuse).exp()
        assert torch.allclose(target.sum(1), torch.ones(5).double())
        target[:, 0].sum().backward()
        assert torch.isfinite(weights.grad).all()


def test_c7_a_student_equal_to_a_teacher_never_hears_it():
    student, vit = logits(2)
    weights = datw_weights(student, [vit, student.clone()])
    assert (weights[:, 1] < 1e-3).all()


def test_c21_tau_squared():
    """The factor is 16 at the default temperature."""
    student, vit, cnn = logits(3)
    weights = datw_weights(student, [vit, cnn])
    target = fused_log_probs([vit, cnn], weights, 4.0, 'logit')
    divergence = F.kl_div(
        F.log_softmax(student / 4, 1),
        target,
        reduction='batchmean',
        log_target=True,
    )
    value = DATWLoss()(student, dict(vit=vit, cnn=cnn))
    assert torch.allclose(value, 16 * divergence)


# ---------------------------------------------------------------------------
# Invariances and degenerate input.


@pytest.mark.parametrize(
    'confidence, discrepancy, weight_norm, fuse',
    itertools.product(CONFIDENCES, DISCREPANCIES, WEIGHT_NORMS, FUSIONS),
)
def test_order_of_teachers_and_classes_does_not_matter(
    confidence, discrepancy, weight_norm, fuse
):
    student, vit, cnn = logits(3)
    order = torch.randperm(7)
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
    assert torch.allclose(value, swapped, rtol=1e-9)


def test_swapping_the_teachers_swaps_the_weights():
    student, vit, cnn = logits(3)
    assert torch.allclose(
        datw_weights(student, [vit, cnn]),
        datw_weights(student, [cnn, vit]).flip(1),
        atol=1e-14,
    )


@pytest.mark.parametrize('fuse', FUSIONS)
@pytest.mark.parametrize(
    'discrepancy', ['centred_cosine', 'prob_cosine', 'js']
)
def test_a_constant_in_the_logits_changes_nothing(fuse, discrepancy):
    student, vit, cnn = logits(3)
    loss = DATWLoss(fuse=fuse, discrepancy=discrepancy)
    before = loss(student, dict(vit=vit, cnn=cnn))
    after = loss(student + 3, dict(vit=vit - 8, cnn=cnn + 5))
    assert torch.allclose(before, after, rtol=1e-10)


def test_a_constant_changes_the_printed_weights():
    student, vit, cnn = logits(3)
    options = dict(discrepancy='raw_cosine')
    assert not torch.allclose(
        datw_weights(student, [vit, cnn], **options),
        datw_weights(student, [vit + 5, cnn], **options),
        atol=1e-2,
    )


@pytest.mark.parametrize(
    'dtype', [torch.float32, torch.float16, torch.bfloat16]
)
@pytest.mark.parametrize('case', ['zero', 'agree', 'identical'])
def test_weights_sum_to_one_in_degenerate_cases(case, dtype):
    student, vit, cnn = (x.to(dtype) for x in logits(3, scale=1.0))
    if case == 'zero':
        student = torch.zeros_like(student)
    elif case == 'agree':
        vit = cnn = student
    else:
        cnn = vit
    weights = datw_weights(student, [vit, cnn])
    assert weights.dtype == torch.float32
    assert torch.isfinite(weights).all()
    assert (weights >= 0).all() and (weights <= 1).all()
    assert torch.allclose(weights.sum(1), torch.ones(5))
    if case != 'zero':
        assert torch.allclose(weights, torch.full_like(weights, 0.5))


@pytest.mark.parametrize('preset', DATWLoss.PRESETS)
@pytest.mark.parametrize('detach', [True, False])
def test_zero_student_logits_have_a_finite_gradient(preset, detach):
    """A new head that starts at zero."""
    _, vit, cnn = logits(3)
    student = torch.zeros(5, 7, requires_grad=True)
    loss = DATWLoss(preset=preset, detach_weights=detach)
    value = loss(student, dict(vit=vit.float(), cnn=cnn.float()))
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(student.grad).all()
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('fuse', FUSIONS)
def test_half_precision_is_computed_in_float32(dtype, fuse):
    student, vit, cnn = (x.to(dtype) for x in logits(3, scale=20.0))
    loss = DATWLoss(fuse=fuse)
    value = loss(student, dict(vit=vit, cnn=cnn))
    assert value.dtype == torch.float32 and torch.isfinite(value)
    expected = loss(student.float(), dict(vit=vit.float(), cnn=cnn.float()))
    assert torch.equal(value, expected)


def test_one_sample_and_strided_logits():
    student, vit, cnn = (x.t() for x in logits(3, batch=7, classes=1))
    value = DATWLoss()(student, dict(vit=vit, cnn=cnn))
    expected = DATWLoss()(
        student.contiguous(), dict(vit=vit.clone(), cnn=cnn.clone())
    )
    assert torch.isfinite(value) and torch.equal(value, expected)


# ---------------------------------------------------------------------------
# The class.


def test_monitors_are_batch_means():
    student, vit, cnn = logits(3)
    loss = DATWLoss(loss_weight=3.0)
    value = loss(student, dict(vit=vit, cnn=cnn))
    assert torch.allclose(value, 3 * DATWLoss()(student, dict(a=vit, b=cnn)))
    weights = datw_weights(student, [vit, cnn])
    assert loss.monitors['datw/vit'] == weights[:, 0].mean()
    assert loss.monitors['datw/cnn'] == weights[:, 1].mean()
    for name, teacher in (('vit', vit), ('cnn', cnn)):
        assert loss.monitors[f'confidence/{name}'] == (
            teacher_confidence(teacher, 4.0, 'one_plus_negentropy').mean()
        )
        assert loss.monitors[f'discrepancy/{name}'] == (
            student_teacher_discrepancy(
                student, teacher, 'prob_cosine', 4.0
            ).mean()
        )
    assert len(loss.monitors) == 6
    # MMEngine would add up every key that contains "loss"
    assert not any('loss' in name for name in loss.monitors)
    assert not any(value.requires_grad for value in loss.monitors.values())


def test_default_arguments_are_the_corrected_preset():
    student, vit, cnn = logits(3)
    assert torch.equal(
        datw_weights(student, [vit, cnn]),
        datw_weights(student, [vit, cnn], **DATWLoss().weight_options),
    )


@pytest.mark.parametrize('classes', [2, 3, 6])
def test_the_default_discrepancy_is_graded(classes):
    """Two classes left the centred cosine with two values, 0 and 2."""
    student, teacher = logits(2, classes=classes, batch=200)
    kind = DATWLoss.PRESETS['corrected']['discrepancy']
    found = student_teacher_discrepancy(student, teacher, kind, 4.0)
    assert len((found * 1e4).round().unique()) > 100
    centred = student_teacher_discrepancy(student, teacher, 'centred_cosine')
    assert (len(centred.round(decimals=4).unique()) == 2) == (classes == 2)


class TestPresetsSideBySide:
    def test_what_differs(self):
        paper = DATWLoss.PRESETS['paper_literal']
        ours = DATWLoss.PRESETS['corrected']
        assert {
            k: (ours[k], paper[k]) for k in ours if ours[k] != paper[k]
        } == {
            'confidence': ('one_plus_negentropy', 'paper_literal'),
            'discrepancy': ('prob_cosine', 'raw_cosine'),
            'weight_norm': ('ratio_sum_to_one', 'paper_ratio'),
            'detach_weights': (True, False),
        }

    @pytest.mark.parametrize(
        'preset, weight', [('corrected', 0.9776), ('paper_literal', 0.4945)]
    )
    def test_weight_of_the_sure_teacher(self, preset, weight):
        """C1 at the presets' own temperature of 4."""
        loss = DATWLoss(preset=preset)
        loss(STUDENT, dict(vit=SURE, cnn=UNSURE))
        assert float(loss.monitors['datw/vit']) == pytest.approx(
            weight, abs=1e-4
        )

    def test_an_option_lies_over_the_preset(self):
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


def test_the_functions_name_an_unknown_option_too():
    student, vit, cnn = logits(3)
    weights = datw_weights(student, [vit, cnn])
    for call in (
        lambda: teacher_confidence(vit, 1.0, 'x'),
        lambda: student_teacher_discrepancy(student, vit, 'x'),
        lambda: normalise_scores(weights, 'x', 1e-6),
        lambda: datw_weights(student, [vit, cnn], score='x'),
        lambda: datw_loss(student, [vit, cnn], weights, 4.0, 'x'),
    ):
        with pytest.raises(ValueError, match="'x'.*choose one of"):
            call()
