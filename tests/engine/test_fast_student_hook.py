"""The layout changes how fast the student trains, and nothing else."""

import copy
import time

import pytest
import torch
from mmaction.datasets import RepeatAugDataset
from mmaction.datasets.repeat_aug_dataset import repeat_pseudo_collate
from mmengine.config import Config
from mmengine.dataset import ConcatDataset, RepeatDataset, pseudo_collate
from mmengine.logging import MessageHub
from noise_clips import noise_pipeline, write_clips
from tiny_models import FRAMES, SIZE, batch, tiny_mvit, tiny_x3d

from dtkd_mmaction.datasets import KeyedViewDataset
from dtkd_mmaction.engine import FastStudentHook, student_checkpoint
from dtkd_mmaction.recognizers.model_spec import build_recognizer


def build(cfg):
    torch.manual_seed(0)
    return build_recognizer(Config(dict(model=cfg)), 'model')


class Wrapper:
    """The part of an optimizer wrapper and a runner that the hook uses."""

    collate_fn = staticmethod(pseudo_collate)

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


def layout_of(runner):
    return runner.message_hub.get_info('student_layout')


def test_auto_is_a_rule_and_no_measurement(dataset, monkeypatch):
    """A stopwatch would choose differently under load."""
    monkeypatch.setattr(time, 'perf_counter', None)
    model = build(tiny_x3d())
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    runner = Wrapper(model, dataset)
    FastStudentHook().before_train(runner)
    assert layout_of(runner) == 'channels_last'
    assert runner.said == [
        'The student trains in the channels_last memory layout.'
    ]
    # The trial step left no trace: statistics, gradients, generators.
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_auto_leaves_a_transformer_alone(dataset):
    runner = Wrapper(build(tiny_mvit()), dataset)
    FastStudentHook().before_train(runner)
    assert layout_of(runner) == 'stock'


def flatten(module, inputs, output):
    """Works in the stock layout only, as the non-local blocks of mmcv do."""
    return output.view(len(output), -1).view_as(output)


def test_auto_keeps_the_stock_layout_where_channels_last_fails(dataset):
    model = build(tiny_x3d())
    model.backbone.conv1_s.register_forward_hook(flatten)
    runner = Wrapper(model, dataset)
    FastStudentHook().before_train(runner)
    assert layout_of(runner) == 'stock'
    assert 'cannot train in channels-last' in runner.said[0]
    assert 'view size is not compatible' in runner.said[0]
    assert all(p.is_contiguous() for p in model.parameters())


def test_all_processes_agree(dataset, monkeypatch):
    """A trial that fails in one process decides for all of them."""
    votes = []

    def other_process_fails(vote, op):
        votes.append((int(vote), op))
        vote.fill_(0)

    monkeypatch.setattr(
        'dtkd_mmaction.engine.fast_student_hook.all_reduce',
        other_process_fails,
    )
    runner = Wrapper(build(tiny_x3d()), dataset)
    FastStudentHook().before_train(runner)
    assert votes == [(1, 'min')]
    assert layout_of(runner) == 'stock'


def test_a_process_whose_trial_fails_still_votes(monkeypatch):
    """Otherwise the others would wait for it."""
    votes = []
    monkeypatch.setattr(
        'dtkd_mmaction.engine.fast_student_hook.all_reduce',
        lambda vote, op: votes.append(int(vote)),
    )

    class NoMemory:
        def __getitem__(self, key):
            raise torch.OutOfMemoryError('out of memory')

    FastStudentHook().before_train(Wrapper(build(tiny_x3d()), NoMemory()))
    assert votes == [0]


def repeat_aug(folder):
    """The training set of the stock MViT configs: several views a sample."""
    return RepeatAugDataset(
        ann_file=str(folder / 'train.txt'),
        data_prefix=dict(video=str(folder)),
        pipeline=noise_pipeline(FRAMES, SIZE),
        num_repeats=2,
    )


WRAPPERS = dict(
    RepeatAugDataset=lambda dataset, folder: repeat_aug(folder),
    RepeatDataset=lambda dataset, folder: RepeatDataset(dataset.dataset, 2),
    ConcatDataset=lambda dataset, folder: ConcatDataset([dataset.dataset] * 2),
)


@pytest.mark.parametrize('name', WRAPPERS)
def test_auto_with_wrapped_data_sets(dataset, tmp_path, name):
    wrapped = WRAPPERS[name](dataset, tmp_path)
    runner = Wrapper(build(tiny_x3d()), wrapped)
    if name == 'RepeatAugDataset':
        runner.collate_fn = repeat_pseudo_collate
    FastStudentHook().before_train(runner)
    assert layout_of(runner) == 'channels_last', runner.said


def test_a_resumed_run_keeps_its_layout(dataset, monkeypatch):
    monkeypatch.setattr(
        'dtkd_mmaction.engine.fast_student_hook.choose_layout', None
    )  # not asked
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
