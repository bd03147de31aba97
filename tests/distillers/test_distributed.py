"""Two processes with half a batch each equal one with the whole."""

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.model import MMDistributedDataParallel
from tiny_models import batch, tiny_distiller, tiny_multi_teacher
from two_processes import results_of_ranks


def paper(gather):
    return tiny_distiller(
        loss_rkd=dict(loss_weight=25.0, angle_weight=2.0, gather=gather)
    )


def several_teachers():
    """AEKD's weights are those of the whole batch; trust is counted."""
    return tiny_multi_teacher(
        fusion_loss=dict(type='AEKDLoss', loss_weight=2.0),
        losses=dict(kd=dict(type='KDLoss', teacher='image')),
    )


def gradients(config, rank=None):
    """Losses and gradients of the student on 4 clips, or a rank's 2."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    distiller = MODELS.build(config)
    # BatchNorm aside: in eval mode it does not see the batch.
    distiller.eval()
    model = distiller
    data = batch(4)
    if rank is not None:
        data = {k: v[2 * rank : 2 * rank + 2] for k, v in data.items()}
        # find_unused_parameters is not needed
        model = MMDistributedDataParallel(distiller)
    data = distiller.data_preprocessor(data, training=True)
    losses = model(**data, mode='loss')
    total, _ = distiller.parse_losses(losses)
    total.backward()
    values = {k: float(v.detach()) for k, v in losses.items() if v.ndim == 0}
    return values, {
        name: p.grad
        for name, p in distiller.named_parameters()
        if p.grad is not None
    }


def on_two_ranks(config, folder):
    return results_of_ranks(lambda rank: gradients(config, rank), folder)


def all_equal(expected, found):
    return all(
        torch.allclose(found[name], value, atol=1e-5, rtol=1e-4)
        for name, value in expected.items()
    )


@pytest.mark.parametrize('gather', [True, False])
def test_joined_batch(tmp_path, gather):
    expected_losses, expected = gradients(paper(gather=False))
    (losses_0, grads_0), (losses_1, grads_1) = on_two_ranks(
        paper(gather), tmp_path
    )
    loss, loss_0, loss_1 = (
        x['loss_rkd'] for x in (expected_losses, losses_0, losses_1)
    )
    assert grads_0.keys() == grads_1.keys() == expected.keys()
    for name in expected:
        assert torch.equal(grads_0[name], grads_1[name]), name
    if gather:
        assert loss_0 == pytest.approx(loss, rel=1e-4) and loss_1 == loss_0
        assert all_equal(expected, grads_0)
    else:  # the relations between the halves are missing
        assert loss_0 != pytest.approx(loss, rel=1e-2)
        assert not all_equal(expected, grads_0)


def test_several_teachers(tmp_path):
    losses, expected = gradients(several_teachers())
    (losses_0, grads_0), (losses_1, _) = on_two_ranks(
        several_teachers(), tmp_path
    )
    assert grads_0.keys() == expected.keys()
    assert all_equal(expected, grads_0)
    for name in ('vit', 'cnn', 'image'):
        for monitor in (f'aekd/{name}', f'trust/{name}', 'gradient/fusion'):
            assert losses_0[monitor] == losses_1[monitor]
            assert losses_0[monitor] == pytest.approx(
                losses[monitor], rel=1e-4
            )
