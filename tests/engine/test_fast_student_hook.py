"""The layout changes how fast the student trains, and nothing else."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from noise_clips import noise_pipeline, write_clips
from tiny_models import FRAMES, SIZE, batch, tiny_mvit, tiny_x3d

from dtkd_mmaction.datasets import KeyedViewDataset
from dtkd_mmaction.engine import FastStudentHook, student_checkpoint
from dtkd_mmaction.engine.fast_student_hook import time_in_turn
from dtkd_mmaction.recognizers.model_spec import build_recognizer


def build(cfg):
    torch.manual_seed(0)
    return build_recognizer(Config(dict(model=cfg)), 'model')


class Wrapper:
    """The part of an optimizer wrapper and a runner that the hook uses."""

    def __init__(self, model, dataset=None):
        self.model = model
        self.message_hub = MessageHub('fast_student_hook')
        self.message_hub.runtime_info.clear()
        self.train_dataloader = self
        self.dataset = dataset
        self.optim_wrapper = self
        self.logger = self
        self.said = []

    def optim_context(self, model):
        return torch.autocast('cpu', enabled=False)

    def info(self, text):
        self.said.append(text)


@pytest.fixture
def dataset(tmp_path):
    write_clips(tmp_path, dict(train=1))
    return KeyedViewDataset(
        dict(
            type='CheckedVideoDataset',
            ann_file=str(tmp_path / 'train.txt'),
            data_prefix=dict(video=str(tmp_path)),
            pipeline=noise_pipeline(FRAMES, SIZE),
        )
    )


def loss_and_gradients(model):
    model.train()
    data = model.data_preprocessor(batch(2))
    loss = model.loss(**data)['loss_cls']
    return loss, torch.autograd.grad(loss, model.parameters())


def test_channels_last_computes_the_same():
    model = build(tiny_x3d())
    other = copy.deepcopy(model)
    FastStudentHook('channels_last').before_train(Wrapper(other))
    loss, gradients = loss_and_gradients(model)
    other_loss, other_gradients = loss_and_gradients(other)
    assert torch.allclose(loss, other_loss, atol=1e-5)
    for ours, theirs in zip(gradients, other_gradients):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4)
    weights = [
        m.weight for m in other.modules() if isinstance(m, torch.nn.Conv3d)
    ]
    assert all(
        w.is_contiguous(memory_format=torch.channels_last_3d) for w in weights
    )
    assert not all(w.is_contiguous() for w in weights)


@pytest.mark.parametrize(
    'times, chosen',
    [
        (dict(stock=1.0, channels_last=0.6), 'channels_last'),
        (dict(stock=1.0, channels_last=0.95), 'stock'),  # within noise
        (dict(stock=1.0, channels_last=1.4), 'stock'),
    ],
)
def test_auto_takes_what_is_clearly_faster(
    dataset, monkeypatch, times, chosen
):
    def measured(steps, rounds):
        for step in steps.values():
            step()  # each is a real step
        return times

    monkeypatch.setattr(
        'dtkd_mmaction.engine.fast_student_hook.time_in_turn', measured
    )
    model = build(tiny_x3d())
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    runner = Wrapper(model, dataset)
    FastStudentHook().before_train(runner)
    assert runner.message_hub.get_info('student_layout') == chosen
    assert f'{chosen} it is' in runner.said[0]
    # The trial left no trace: statistics, gradients, generators.
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_resumed_run_keeps_its_layout(dataset, monkeypatch):
    monkeypatch.setattr(FastStudentHook, '_fastest', None)  # not asked
    runner = Wrapper(build(tiny_x3d()), dataset)
    runner.message_hub.update_info('student_layout', 'channels_last')
    FastStudentHook().before_train(runner)
    weight = runner.model.backbone.layer1[0].conv1.conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)


def test_the_export_is_in_the_stock_layout():
    model = build(tiny_x3d())
    FastStudentHook('channels_last').before_train(Wrapper(model))
    state = {f'student.{k}': v for k, v in model.state_dict().items()}
    exported = student_checkpoint(dict(state_dict=state))['state_dict']
    for name, value in exported.items():
        assert value.is_contiguous()
        assert torch.equal(value, state[f'student.{name}'])


def test_compile_is_of_the_backbone_in_place(monkeypatch):
    model, compiled = build(tiny_mvit()), []
    keys = set(model.state_dict())
    monkeypatch.setattr(
        torch.nn.Module, 'compile', lambda self: compiled.append(self)
    )
    FastStudentHook('stock', compile=True).before_train(Wrapper(model))
    assert compiled == [model.backbone]
    assert set(model.state_dict()) == keys


def test_unknown_layout():
    with pytest.raises(ValueError, match="layout='fast'"):
        FastStudentHook('fast')


def test_times_are_taken_in_turn():
    calls = []
    found = time_in_turn(
        dict(a=lambda: calls.append('a'), b=lambda: calls.append('b')), 2
    )
    assert calls == ['a', 'b'] * 3
    assert set(found) == {'a', 'b'} and min(found.values()) >= 0
