"""Losses that are not finite end a training, or skip a step of float16."""

import math
from contextlib import contextmanager

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from tiny_models import batch, tiny_distiller

from dtkd_mmaction.distillers.finite_losses import MAX_SKIPPED_STEPS
from dtkd_mmaction.losses import CRDLoss


class Float16(AmpOptimWrapper):
    """The mixed precision of a GPU, computed on the CPU."""

    def __init__(self, model):
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        OptimWrapper.__init__(self, optimizer)
        self._scale_update_param = None
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=8.0)

    @contextmanager
    def optim_context(self, model):
        with torch.autocast('cpu', dtype=torch.float16):
            yield


@pytest.fixture
def distiller():
    torch.manual_seed(0)
    model = MODELS.build(tiny_distiller(loss_sd=None, loss_rkd=None))
    model.train()
    return model


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


def is_same(ours, theirs):
    return all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize('value', [math.nan, math.inf])
@pytest.mark.parametrize('kind', ['loss', 'monitor'])
def test_float16_skips_the_step(distiller, logged, value, kind):
    optim = Float16(distiller)
    stock = distiller.loss

    def broken(inputs, data_samples):
        losses = stock(inputs, data_samples)
        if kind == 'loss':
            losses['loss_sr'] = losses['loss_sr'] * value
        else:  # the loss alone would train the student on a silent zero
            losses['residual_var'] = torch.tensor(value)
        return losses

    before = weights(distiller)
    distiller.loss = broken
    for _ in range(2):
        log_vars = distiller.train_step(batch(2), optim)
    assert not all(torch.isfinite(v) for v in log_vars.values())
    assert is_same(weights(distiller), before)
    assert optim.loss_scaler.get_scale() == 8.0 / 4
    assert 'This step is skipped' in logged()
    distiller.loss = stock
    distiller.train_step(batch(2), optim)
    assert not is_same(weights(distiller), before)


def test_float16_does_not_skip_for_ever(distiller):
    optim = Float16(distiller)
    distiller.loss = lambda *_: dict(
        loss_cls=next(distiller.parameters()).sum() * math.nan
    )
    for _ in range(MAX_SKIPPED_STEPS):
        distiller.train_step(batch(2), optim)
    with pytest.raises(FloatingPointError, match="'loss_cls': nan"):
        distiller.train_step(batch(2), optim)


def test_without_a_scaler_the_training_ends(distiller):
    """float32, and bfloat16 on the CPU."""
    optimizer = torch.optim.SGD(distiller.parameters(), lr=1e-3)
    distiller.loss_sr.loss_weight = math.nan
    for dtype in (None, torch.bfloat16):
        optim = OptimWrapper(optimizer)
        enabled = dtype is not None
        with torch.autocast('cpu', dtype=dtype, enabled=enabled):
            with pytest.raises(FloatingPointError, match="'loss_sr': nan"):
                distiller.train_step(batch(2), optim)


def test_an_overflow_stays_out_of_the_banks_of_crd():
    torch.manual_seed(0)
    loss = CRDLoss(num_samples=4, student_width=3, teacher_width=3, dim=2)
    labels = ids = torch.arange(2)
    before = loss.student_bank.clone()
    student = torch.tensor([[math.inf, 0, 0], [1, 2, 3.0]])
    loss.bank_labels[:] = torch.arange(4)
    assert not torch.isfinite(loss(student, torch.rand(2, 3), labels, ids))
    assert torch.isfinite(loss.student_bank).all()
    assert torch.equal(loss.student_bank[0], before[0])
    assert not torch.equal(loss.student_bank[1], before[1])
    assert loss.log_z.isnan().all()  # not set by the broken batch
    assert torch.isfinite(
        loss(torch.rand(2, 3), torch.rand(2, 3), labels, ids)
    )
