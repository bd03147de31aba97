"""No distillation term can drown the label loss."""

import pytest
import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from tiny_models import batch, tiny_distiller

from dtkd_mmaction.distillers.gradient_limit import (
    label_loss_at_chance,
    limit_gradients,
)
from dtkd_mmaction.recognizers.class_parts import ClassPart

PART = [ClassPart('', 0, 0, 5)]


def graph(scale=1.0):
    """Features, logits, labels and two terms, one of them large."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6, 3, generator=generator, requires_grad=True)
    logits = features @ torch.randn(3, 5, generator=generator)
    labels = torch.arange(6) % 5
    losses = dict(
        loss_cls=F.cross_entropy(logits, labels),
        loss_small=1e-3 * features.square().mean(),
        loss_large=scale * features.square().mean(),
    )
    return features, logits, labels, losses


def gradient(loss, features):
    return torch.autograd.grad(loss, features, retain_graph=True)[0]


def test_the_reference_is_the_gradient_of_a_uniform_classifier():
    features = torch.randn(6, 3, requires_grad=True)
    weight = torch.randn(3, 5)
    labels = torch.arange(6) % 5
    reference = label_loss_at_chance(features @ weight, labels, PART)
    # cross-entropy whose logits are 0 in value and `features @ weight` in
    # gradient
    logits = features @ weight
    uniform = F.cross_entropy(logits - logits.detach(), labels)
    torch.testing.assert_close(
        gradient(reference, features), gradient(uniform, features)
    )


@pytest.mark.parametrize('ratio', [0.5, 1.0])
def test_large_terms_end_at_the_ratio_and_small_ones_stay(ratio):
    features, logits, labels, losses = graph(scale=1e4)
    reference = label_loss_at_chance(logits, labels, PART)
    limited, ratios = limit_gradients(
        losses, ['loss_small', 'loss_large'], reference, [features], ratio
    )
    size = gradient(reference, features).norm()
    torch.testing.assert_close(
        gradient(limited['loss_large'], features).norm(), ratio * size
    )
    assert limited['loss_small'] == losses['loss_small']
    assert limited['loss_cls'] is losses['loss_cls']
    assert ratios['loss_large'] > 100 and ratios['loss_small'] < ratio
    torch.testing.assert_close(  # the direction is kept
        F.cosine_similarity(
            gradient(limited['loss_large'], features).flatten(),
            gradient(losses['loss_large'], features).flatten(),
            dim=0,
        ),
        torch.tensor(1.0),
    )


def test_a_term_elsewhere_is_left_alone():
    features, logits, labels, losses = graph()
    losses['loss_elsewhere'] = torch.ones(1, requires_grad=True).sum() * 1e6
    reference = label_loss_at_chance(logits, labels, PART)
    limited, ratios = limit_gradients(
        losses, ['loss_elsewhere'], reference, [features], 1.0
    )
    assert limited['loss_elsewhere'] == 1e6
    assert ratios == {}


def test_unlabelled_and_mixed_labels_have_a_reference():
    _, logits, labels, _ = graph()
    unlabelled = label_loss_at_chance(logits, labels * 0 - 1, PART)
    mixed = label_loss_at_chance(logits, F.softmax(logits, 1), PART)
    assert torch.isfinite(unlabelled) and torch.isfinite(mixed)


@pytest.mark.parametrize('weight', [1.0, 1e6])
def test_whole_objective(weight):
    """With the limit, a weight of a million is no different from a large."""
    torch.manual_seed(0)
    distiller = MODELS.build(
        tiny_distiller(loss_rkd=dict(loss_weight=weight), teacher_trust=False)
    )
    data = distiller.data_preprocessor(batch(), training=True)
    losses = distiller(**data, mode='loss')
    assert {'gradient/sr', 'gradient/sd', 'gradient/rkd'} <= set(losses)
    total, _ = distiller.parse_losses(losses)
    total.backward()
    grads = [p.grad for p in distiller.student.parameters()]
    norm = torch.stack([g.norm() for g in grads if g is not None]).norm()
    assert torch.isfinite(norm) and norm < 1e3


def test_the_limit_needs_no_gradient_outside_training():
    distiller = MODELS.build(tiny_distiller(teacher_trust=False))
    data = distiller.data_preprocessor(batch(), training=True)
    with torch.no_grad():
        losses = distiller(**data, mode='loss')
    assert 'gradient/sr' not in losses
