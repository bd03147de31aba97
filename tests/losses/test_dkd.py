"""DKD against the vectors of the notes, KD and plain loops."""

import math

import pytest
import torch
from mmengine.logging import MessageHub

from dtkd_mmaction.losses.dkd import DKDLoss, dkd_loss, dkd_terms
from dtkd_mmaction.losses.kd import kd_loss

# methods.md B4
TEACHER = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log()
STUDENT = torch.tensor([[0.25, 0.5, 0.25]], dtype=torch.float64).log()
LABEL = torch.tensor([0])


def batch(classes=6, size=5, scale=3.0, seed=0):
    torch.manual_seed(seed)
    student, teacher = scale * torch.randn(
        2, size, classes, dtype=torch.float64
    )
    return student, teacher, torch.randint(classes, (size,))


def softmax(z, tau):
    e = [math.exp(v / tau) for v in z]
    return [v / sum(e) for v in e]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q))


def terms_by_loops(student, teacher, labels, tau):
    """One (TCKD, NCKD) a sample, from probabilities."""
    terms = []
    for s, t, c in zip(*(x.tolist() for x in (student, teacher, labels))):
        q, p = softmax(s, tau), softmax(t, tau)
        target = kl([p[c], 1 - p[c]], [q[c], 1 - q[c]])
        del p[c], q[c]
        p, q = ([v / sum(row) for v in row] for row in (p, q))
        terms.append((target, kl(p, q)))
    return terms


def test_vector_of_the_notes():
    tckd, nckd = dkd_terms(STUDENT, TEACHER, LABEL, 1.0)
    assert float(tckd) == pytest.approx(0.143841, abs=1e-6)
    assert float(nckd) == pytest.approx(0.009712, abs=1e-6)
    kd = float(kd_loss(STUDENT, TEACHER, 1.0))
    assert kd == pytest.approx(0.148697, abs=1e-6)
    assert float(tckd + 0.5 * nckd) == pytest.approx(kd, rel=1e-12)


@pytest.mark.parametrize('tau', [1.0, 4.0])
@pytest.mark.parametrize('classes', [2, 3, 9])
def test_against_loops(tau, classes):
    data = batch(classes)
    terms = dkd_terms(*data, tau)
    expected = terms_by_loops(*data, tau)
    for value, column in zip(terms, zip(*expected)):
        assert value.tolist() == pytest.approx(column, rel=1e-9, abs=1e-12)
    value = float(dkd_loss(*data, 1.5, 8.0, tau))
    total = sum(1.5 * t + 8.0 * n for t, n in expected) / len(expected)
    assert value == pytest.approx(tau**2 * total, rel=1e-9)


@pytest.mark.parametrize('tau', [1.0, 4.0])
def test_kd_is_a_special_case(tau):
    student, teacher, labels = batch()
    p = (teacher / tau).softmax(1).gather(1, labels[:, None])[:, 0]
    assert torch.allclose(
        dkd_loss(student, teacher, labels, 1.0, 1 - p, tau),
        kd_loss(student, teacher, tau),
        rtol=1e-10,
    )


def test_two_classes_have_no_order_of_the_others():
    _, nckd = dkd_terms(*batch(classes=2), 4.0)
    assert (nckd == 0).all()


def test_equal_or_shifted_logits_cost_nothing():
    _, teacher, labels = batch()
    for student in (teacher, teacher + 3):
        assert dkd_loss(student, teacher, labels, 1, 8, 4.0).abs() < 1e-10


def test_class_order_does_not_matter():
    student, teacher, labels = batch()
    order = torch.randperm(6)
    moved = order.argsort()[labels]
    assert torch.allclose(
        dkd_loss(student, teacher, labels, 1, 2, 4.0),
        dkd_loss(student[:, order], teacher[:, order], moved, 1, 2, 4.0),
    )


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize('tau', [1.0, 4.0])
@pytest.mark.parametrize('label', [0, 1])
def test_sure_models_stay_finite(dtype, tau, label):
    """q_c is 0 or 1 to the last digit: the log of 1 - q_c would not be."""
    student = torch.tensor([[1000.0, 0, -5], [-1000, 0, 5]]).to(dtype)
    student.requires_grad_()
    teacher = torch.tensor([[0.0, 1000, 3], [0, 1000, 3]]).to(dtype)
    labels = torch.tensor([label, label])
    value = dkd_loss(student, teacher, labels, 1.0, 8.0, tau)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(student.grad).all()
    assert student.grad.abs().sum() > 0


def test_gradient():
    student, teacher, labels = batch(4, 3)
    student.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: dkd_loss(s, teacher, labels, 1.0, 2.0, 4.0), (student,)
    )


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    student, teacher, labels = batch(scale=20.0)
    student, teacher = student.to(dtype), teacher.to(dtype)
    value = DKDLoss()(student, teacher, labels)
    assert value.dtype == torch.float32 and torch.isfinite(value)
    assert torch.equal(
        value, DKDLoss()(student.float(), teacher.float(), labels)
    )


def test_class_weighs_and_spares_the_teacher():
    student, teacher, labels = batch()
    student.requires_grad_()
    teacher.requires_grad_()
    loss = DKDLoss(loss_weight=3.0, alpha=0.5, beta=8.0, tau=2.0)
    value = loss(student, teacher, labels)
    assert torch.allclose(
        value, 3 * dkd_loss(student, teacher, labels, 0.5, 8.0, 2.0)
    )
    value.backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None


def test_monitors():
    data = batch()
    loss = DKDLoss(loss_weight=3.0)
    loss(data[0].requires_grad_(), *data[1:])
    tckd, nckd = dkd_terms(*data, 4.0)
    assert loss.monitors == dict(tckd=tckd.mean(), nckd=nckd.mean())
    assert not any(value.requires_grad for value in loss.monitors.values())


def test_warm_up():
    data = batch()
    hub = MessageHub.get_current_instance()
    before = hub.pop_info('epoch')
    full, growing = DKDLoss()(*data), DKDLoss(warm_up_epochs=4)
    for epoch, factor in ((0, 0.25), (1, 0.5), (3, 1.0), (9, 1.0)):
        hub.update_info('epoch', epoch)
        assert torch.allclose(growing(*data), factor * full)
        assert torch.equal(DKDLoss()(*data), full)
    hub.pop_info('epoch')
    if before is not None:
        hub.update_info('epoch', before)
