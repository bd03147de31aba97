import pytest
import torch
from mmaction.structures import ActionDataSample

from dtkd_mmaction.heads import MoViNetHead


@pytest.mark.parametrize(
    'channels, num_classes', [(480, 51), (640, 101), (640, 600), (992, 2)]
)
def test_parameters(channels, num_classes):
    head = MoViNetHead(num_classes, channels)
    assert sum(weight.numel() for weight in head.parameters()) == (
        channels * 2048 + 2048 + 2049 * num_classes
    )


def test_pools_then_classifies():
    head = MoViNetHead(5, 8, hidden_channels=16).eval()
    x = torch.randn(2, 8, 3, 4, 6)
    pooled = x.mean(dim=(2, 3, 4))
    hidden = head.fc1(pooled)
    expected = head.fc2(hidden * hidden.sigmoid())
    assert torch.allclose(head(x), expected, atol=1e-6)


def test_stream_ends_at_the_whole_video():
    head = MoViNetHead(5, 8, hidden_channels=16).eval()
    x = torch.randn(2, 8, 6, 4, 3)
    first, state = head.stream(x[:, :, :1])
    assert torch.allclose(first, head(x[:, :, :1]), atol=1e-6)
    kept = state['sum'].clone()
    for _ in range(2):  # the state is the caller's: the same twice
        logits, after = head.stream(x[:, :, 1:], state)
        assert torch.allclose(logits, head(x), atol=1e-6)
        assert torch.equal(state['sum'], kept)
    assert after['count'] == 6


def test_official_initialisation():
    head = MoViNetHead(600, 480)
    with torch.no_grad():
        for weight in head.parameters():
            weight.fill_(3)
    head.init_weights()
    assert float(head.fc1.weight.detach().std()) == pytest.approx(
        (2 / 480) ** 0.5, rel=0.02
    )
    assert float(head.fc2.weight.detach().std()) == pytest.approx(
        0.01, rel=0.02
    )
    assert not head.fc1.bias.any()
    assert not head.fc2.bias.any()


def test_dropout_in_training_only():
    head = MoViNetHead(5, 8, dropout_ratio=0.5)
    x = torch.randn(2, 8, 1, 2, 2)
    assert not torch.equal(head(x), head(x))
    head.eval()
    assert torch.equal(head(x), head(x))


def test_options_of_the_stock_heads():
    head = MoViNetHead(
        5,
        8,
        loss_cls=dict(type='CrossEntropyLoss', loss_weight=2.0),
        label_smooth_eps=0.1,
        average_clips='score',
    )
    samples = [ActionDataSample().set_gt_label(label) for label in (1, 4)]
    losses = head.loss(torch.randn(2, 8, 2, 2, 2), samples)
    assert losses['loss_cls'].isfinite()
    assert 'top1_acc' in losses
    head.predict(torch.randn(4, 8, 2, 2, 2), samples)
    assert samples[0].pred_score.shape == (5,)
