import math

import pytest
import torch
import torch.nn.functional as F
from probing import Standardiser, cross_validate, fit
from scipy.optimize import minimize


def clusters(n=60, classes=3, width=8, spread=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=generator)
    labels = torch.arange(n) % classes
    noise = torch.randn(n, width, generator=generator)
    return centres[labels] + spread * noise, labels


@pytest.mark.parametrize('strength', [1.0, 1e-2])
def test_finds_the_minimum(strength):
    """The optimum that SciPy finds in float64."""
    features, labels = clusters()
    x = features.double()

    def loss(values):
        values = torch.from_numpy(values).requires_grad_()
        weight, bias = values[:24].view(3, 8), values[24:]
        value = F.cross_entropy(F.linear(x, weight, bias), labels)
        value = value + strength / 2 * weight.square().sum()
        value.backward()
        return value.item(), values.grad.numpy()

    expected = minimize(
        loss, torch.zeros(27).double().numpy(), jac=True, tol=1e-12
    ).x
    found = fit(features, labels, 3, strength)
    expected = torch.from_numpy(expected).float()
    torch.testing.assert_close(
        found.weight.flatten(), expected[:24], atol=2e-3, rtol=0
    )
    # adding a number to all biases changes nothing
    torch.testing.assert_close(
        found.bias - found.bias.mean(),
        expected[24:] - expected[24:].mean(),
        atol=2e-3,
        rtol=0,
    )


def test_standardisation_is_absorbed():
    features, labels = clusters()
    features = features * torch.arange(1, 9) + 100
    features[:, 3] = 7.0  # a constant feature
    standardise = Standardiser.of(features)
    scaled = standardise(features)
    assert scaled.isfinite().all() and (scaled[:, 3] == 0).all()
    classifier = fit(scaled, labels, 3, 0.1)
    torch.testing.assert_close(
        standardise.absorb(classifier).logits(features),
        classifier.logits(scaled),
        atol=1e-3,
        rtol=1e-3,
    )


def test_cross_validation_needs_regularisation_for_noise():
    """Features without information: only a strong one predicts the prior."""
    features = torch.randn(60, 40, generator=torch.Generator().manual_seed(0))
    labels, folds = torch.arange(60) % 3, torch.arange(60) // 3 % 5
    results = cross_validate(features, labels, 3, folds, [1e-3, 1e-1, 1e2])
    assert results[0].strength == 1e2
    assert results[0].log_loss == min(r.log_loss for r in results)
    assert results[0].log_loss == pytest.approx(math.log(3), abs=0.05)


def test_cross_validation_prefers_a_weak_one_for_clear_classes():
    features, labels = clusters(spread=0.1)
    folds = torch.arange(60) // 3 % 5
    results = cross_validate(features, labels, 3, folds, [1e-4, 1e-2, 1e2])
    best = min(results, key=lambda result: result.log_loss)
    assert (best.strength, best.accuracy) == (1e-4, 1.0)


def test_cross_validation_hides_the_fold():
    """Labels that only the fold itself knows are not predicted."""
    features = torch.eye(40)
    labels, folds = torch.arange(40) % 2, torch.arange(40) // 8
    results = cross_validate(features, labels, 2, folds, [1e-3])
    assert results[0].accuracy <= 0.5


def test_stops_behind_the_minimum():
    features = torch.randn(60, 40, generator=torch.Generator().manual_seed(0))
    labels, folds = torch.arange(60) % 3, torch.arange(60) // 3 % 5
    strengths = [10.0**k for k in range(-6, 3)]
    results = cross_validate(features, labels, 3, folds, strengths)
    assert [r.strength for r in results] == [1e2, 1e1, 1.0]
