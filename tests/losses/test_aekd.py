import numpy as np
import pytest
import torch
from teacher_logits import kd_per_sample, random_logits, softmax

from dtkd_mmaction.losses import AEKDLoss, aekd_weights, weighted_kd_loss
from dtkd_mmaction.losses.aekd import mean_gradients, min_norm_weights


def project_to_capped_simplex(point, cap):
    """Nearest point with sum 1 and entries in [0, cap], by bisection."""
    low, high = point.min() - 1, point.max()
    for _ in range(100):
        middle = (low + high) / 2
        if np.clip(point - middle, 0, cap).sum() > 1:
            low = middle
        else:
            high = middle
    return np.clip(point - low, 0, cap)


def by_projected_gradient(gradients, cap, steps=20000):
    gram = gradients @ gradients.T
    rate = 1 / np.linalg.eigvalsh(gram)[-1]
    alpha = np.full(len(gram), 1 / len(gram))
    for _ in range(steps):
        moved = project_to_capped_simplex(alpha - rate * gram @ alpha, cap)
        if np.abs(moved - alpha).max() < 1e-13:
            break
        alpha = moved
    return alpha


@pytest.mark.parametrize('count', [2, 3, 5])
@pytest.mark.parametrize('nu', [None, 0.6, 0.9, 1.0])
def test_min_norm_against_projected_gradient(count, nu):
    cap = min(1.0, 1 / (nu * count)) if nu else 1.0
    generator = np.random.default_rng(count)
    for _ in range(4):
        gradients = generator.normal(size=(count, 6))
        gradients *= generator.uniform(0.2, 3, (count, 1))
        found = min_norm_weights(torch.from_numpy(gradients), cap).numpy()
        expected = by_projected_gradient(gradients, cap)
        assert found.sum() == pytest.approx(1)
        assert (found >= 0).all() and (found <= cap + 1e-9).all()
        assert np.allclose(found, expected, atol=1e-4)
        norms = [np.linalg.norm(w @ gradients) for w in (found, expected)]
        assert norms[0] == pytest.approx(norms[1], abs=1e-6)


def test_closed_form_of_two():
    """alpha_1 = clip((g_2 - g_1) . g_2 / ||g_1 - g_2||^2, 0, 1)."""
    generator = np.random.default_rng(0)
    for length in (0.1, 1.0, 10.0):
        one, two = generator.normal(size=(2, 5)) * [[length], [1]]
        difference = two - one
        expected = np.clip(difference @ two / (difference @ difference), 0, 1)
        found = min_norm_weights(torch.from_numpy(np.stack([one, two])))
        assert float(found[0]) == pytest.approx(expected, abs=1e-7)


def test_equal_gradients_share_equally():
    for count in (2, 3, 4):
        weights = min_norm_weights(torch.ones(count, 5))
        assert weights.numpy() == pytest.approx([1 / count] * count)


def test_two_equal_of_three_share_what_one_of_them_would_have():
    one, two = torch.randn(
        2, 6, generator=torch.Generator().manual_seed(3)
    ).double()
    pair = min_norm_weights(torch.stack([one, two]))
    triple = min_norm_weights(torch.stack([one, two, two]))
    assert float(triple[0]) == pytest.approx(float(pair[0]), abs=1e-5)
    assert float(triple[1]) == pytest.approx(float(triple[2]), abs=1e-5)


@pytest.mark.parametrize('tau', [1.0, 4.0])
def test_gradients_are_those_of_autograd(tau):
    student, teachers = random_logits(3)
    logits = list(teachers.values())
    found = mean_gradients(student, logits, tau)
    for k, teacher in enumerate(logits):
        leaf = student.clone().requires_grad_()
        weighted_kd_loss(
            leaf, [teacher], torch.ones(6, 1).double(), tau
        ).backward()
        # The loss is a mean already: its gradients add up to the mean.
        assert torch.allclose(found[k], leaf.grad.sum(dim=0), atol=1e-12)


@pytest.mark.parametrize('count', [2, 3])
@pytest.mark.parametrize('nu', [None, 0.8])
def test_whole_loss_against_numpy(count, nu):
    tau = 3.0
    student, teachers = random_logits(count)
    q = softmax(student.numpy(), tau)
    gradients = np.stack(
        [
            (tau * (q - softmax(t.numpy(), tau))).mean(0)
            for t in teachers.values()
        ]
    )
    norms = np.linalg.norm(gradients, axis=1)
    cap = min(1.0, 1 / (nu * count)) if nu else 1.0
    alpha = by_projected_gradient(gradients / norms[:, None], cap)
    weights = (alpha / norms) / (alpha / norms).sum()
    found = aekd_weights(student, list(teachers.values()), tau, nu)
    assert np.allclose(found.numpy(), weights, atol=1e-5)
    value = AEKDLoss(loss_weight=2.0, tau=tau, nu=nu)(student, teachers)
    expected = 2 * (weights * kd_per_sample(student, teachers, tau)).sum() / 6
    assert float(value) == pytest.approx(expected, rel=1e-4)


def test_two_teachers_are_weighed_by_the_length_of_their_gradients():
    """Unit gradients have their shortest combination in the middle."""
    student, teachers = random_logits(2)
    logits = list(teachers.values())
    norms = mean_gradients(student, logits, 4.0).norm(dim=1)
    expected = (1 / norms) / (1 / norms).sum()
    assert torch.allclose(aekd_weights(student, logits, 4.0), expected)


@pytest.mark.parametrize('nu', [0.0, 1.5])
def test_range_of_nu(nu):
    with pytest.raises(ValueError, match='AEKDLoss.nu='):
        AEKDLoss(nu=nu)
