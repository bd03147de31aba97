"""Rewritten models have the outputs of the stock models."""

import pytest
import torch
import torch.nn as nn
from mmaction.models.backbones.swin import compute_mask
from realistic_models import (
    FOUND,
    MODELS,
    answers,
    assert_same,
    build,
    clips,
    teacher,
    weights,
)

from dtkd_mmaction.teachers.frozen_teacher import FrozenTeacher
from dtkd_mmaction.teachers.speedups import (
    SPEEDUPS,
    apply_speedups,
    to_channels_last,
)
from dtkd_mmaction.teachers.speedups.apply import undo_all


def speedups_in(names):
    return f'speedups applied: {", ".join(names) or "none"}\n'


@pytest.mark.parametrize('name', MODELS)
def test_speedups_change_no_output(name, logged):
    stock, faster = teacher(name), teacher(name)
    faster.apply_speedups()
    assert speedups_in(FOUND[name]) in logged()
    assert_same(answers(faster), answers(stock))


@pytest.mark.parametrize('name', MODELS)
def test_undone_is_the_stock_model_to_the_bit(name):
    model = teacher(name)
    wanted = answers(model)
    undo = {
        speedup: rewrite(model.recognizer, model._sample_outputs)
        for speedup, rewrite in SPEEDUPS.items()
    }
    assert [speedup for speedup in undo if undo[speedup]] == FOUND[name]
    undo_all([change for changes in undo.values() for change in changes])
    for ours, theirs in zip(answers(model), wanted):
        assert torch.equal(ours, theirs)
    assert model.recognizer.state_dict().keys() == weights(name).keys()


@pytest.mark.parametrize('name', ['x3d', 'slow_only', 'r2plus1d', 'movinet'])
def test_no_batchnorm_is_left_behind_a_convolution(name):
    """But for the first one, whose convolution is a tap."""
    model = teacher(name)
    before = [m for m in model.modules() if isinstance(m, nn.BatchNorm3d)]
    model.apply_speedups()
    left = [m for m in model.modules() if isinstance(m, nn.BatchNorm3d)]
    assert len(left) <= 1 < len(before)


@pytest.mark.parametrize('name', ['mvit', 'swin', 'timesformer'])
def test_attention_is_fused(name, monkeypatch):
    model, stock = teacher(name), teacher(name)
    model.apply_speedups()

    def softmax(*_, **__):
        raise AssertionError('a matrix of weights was made')

    monkeypatch.setattr(torch.Tensor, 'softmax', softmax)
    monkeypatch.setattr(nn.Softmax, 'forward', softmax)
    monkeypatch.setattr(torch.nn.functional, 'softmax', softmax)
    model(clips())
    with pytest.raises(AssertionError, match='a matrix of weights'):
        stock(clips())


@pytest.mark.parametrize('name', ['mvit', 'swin', 'timesformer', 'movinet'])
def test_no_drop_path_is_left(name):
    model = teacher(name)

    def count():
        return sum(type(m).__name__ == 'DropPath' for m in model.modules())

    assert count() > 0
    model.apply_speedups()
    assert count() == 0


def test_tables_belong_to_one_grid():
    """A clip of another size and shape after the first one."""
    stock, faster = teacher('mvit'), teacher('mvit')
    faster.apply_speedups()
    generator = torch.Generator().manual_seed(2)
    for shape in ((4, 48, 32), (6, 32, 64), (4, 32, 32)):
        clip = torch.randn(2, 1, 3, *shape, generator=generator)
        with torch.no_grad():
            ours = faster._record(clip, ('maps',))
            theirs = stock._record(clip, ('maps',))
        assert_same(
            [ours.logits, ours.map, *ours.maps],
            [theirs.logits, theirs.map, *theirs.maps],
        )


def test_masks_are_known_for_as_long_as_they_live():
    """The backbone forgets a mask, and its memory serves another one."""
    stock, faster = teacher('swin'), teacher('swin')
    faster.apply_speedups()
    generator = torch.Generator().manual_seed(2)
    for size in [(24, 48), (48, 24), (32, 36), (36, 32)] * 3:
        compute_mask.cache_clear()
        clip = torch.randn(2, 1, 3, 4, *size, generator=generator)
        with torch.no_grad():
            ours = faster._record(clip, ()).logits
            theirs = stock._record(clip, ()).logits
        assert_same([ours], [theirs])


def test_checked_without_tf32(logged, monkeypatch):
    """Simulates an NVIDIA GPU, whose convolutions keep ten bits by default."""
    convolve = torch.nn.functional.conv3d

    def ten_bits(x):
        bits = x.contiguous().view(torch.int32)
        return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)

    def card(x, weight, *args):
        if torch.backends.cudnn.allow_tf32:
            x, weight = ten_bits(x), ten_bits(weight)
        return convolve(x, weight, *args)

    monkeypatch.setattr(torch.nn.functional, 'conv3d', card)
    assert torch.backends.cudnn.allow_tf32
    teacher('slow_only').apply_speedups()
    assert torch.backends.cudnn.allow_tf32
    assert speedups_in(FOUND['slow_only']) in logged()
    assert 'left out' not in logged()


def test_channels_last_is_for_cnns():
    assert SPEEDUPS['channels_last'](build('mvit'), None) == []
    assert SPEEDUPS['channels_last'](build('x3d'), None)


def test_only_what_it_was_asked_for():
    chosen = dict.fromkeys(SPEEDUPS, False)
    model = teacher('x3d', speedups=dict(chosen, fold_batchnorm=True))
    model.apply_speedups()
    convolution = model.recognizer.backbone.layer1[0].conv1.conv
    assert convolution.bias is not None
    assert convolution.weight.is_contiguous()
    untouched = teacher('x3d', speedups=False)
    untouched.apply_speedups()
    assert torch.equal(answers(untouched)[0], answers(teacher('x3d'))[0])


def test_a_rewrite_that_disagrees_is_left_out(logged):
    def wrong(model, run):
        weight = model.cls_head.fc2.weight
        weight.data = weight.data * 1.001

        def undo():
            weight.data = weight.data / 1.001

        return [undo]

    def broken(model, run):
        convolution = model.backbone.conv1_s.conv
        before, convolution.forward = convolution.forward, None

        def undo():
            convolution.forward = before

        return [undo]

    model = teacher('x3d')
    wanted = answers(model)
    made = apply_speedups(
        model.recognizer,
        model._sample_outputs,
        dict(wrong=wrong, broken=broken, **SPEEDUPS),
        'model.cnn_teacher',
    )
    assert made == FOUND['x3d']
    text = logged()
    assert "model.cnn_teacher: the speedup 'wrong' is left out" in text
    assert 'logits differs by' in text
    assert "the speedup 'broken' is left out: TypeError" in text
    assert_same(answers(model), wanted)


def test_a_model_that_draws_its_answers_is_left_alone(logged):
    """No rewrite is to blame."""
    model = teacher('x3d')
    model.recognizer.cls_head.register_forward_hook(
        lambda _, __, logits: logits + torch.rand_like(logits)
    )
    model.apply_speedups()
    assert 'the model itself change from call to call' in logged()
    assert 'left out' not in logged()
    assert any(isinstance(m, nn.BatchNorm3d) for m in model.modules())


def test_stochastic_teachers_are_not_rewritten():
    model = FrozenTeacher(
        dict(cfg=MODELS['x3d'], checkpoint=None), mode='bn_eval_only'
    )
    model.apply_speedups()
    assert any(isinstance(m, nn.BatchNorm3d) for m in model.modules())


def test_other_models_of_the_class_are_stock():
    """Instances are rewritten, never classes."""
    faster = teacher('mvit')
    faster.apply_speedups()
    fresh = build('mvit').backbone.blocks[0].attn
    assert 'forward' not in vars(fresh)


def test_to_channels_last_can_be_undone():
    model = build('x3d')
    undo = to_channels_last(model)
    weight = model.backbone.layer1[0].conv1.conv.weight
    undo_all(undo)
    assert weight.is_contiguous()
