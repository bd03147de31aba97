"""Speed options of a teacher's spec, and moving a teacher to a device."""

import copy

import pytest
import torch
import torch.nn as nn
from realistic_models import MODELS, answers, assert_same, clips, teacher

from dtkd_mmaction.distillers.student import build_student
from dtkd_mmaction.teachers.frozen_teacher import chosen_speedups
from dtkd_mmaction.teachers.speedups import SPEEDUPS


@pytest.mark.parametrize('name', ['mvit', 'swin', 'x3d', 'timesformer'])
def test_follows_its_device_and_dtype(name):
    """Tables are made where the tokens are."""
    model = teacher(name)
    wanted = answers(model)
    model.apply_speedups()
    answers(model)
    model.double()
    found = [a.float() for a in (model(clips()).logits, model(clips()).map)]
    assert_same(found, [wanted[0], wanted[2]])


@pytest.mark.parametrize('name', ['mvit', 'x3d'])
def test_low_precision_is_near_and_given_in_float32(name):
    exact, rough = teacher(name), teacher(name, precision='bf16')
    rough.apply_speedups()
    ours, theirs = answers(rough), answers(exact)
    assert all(a.dtype == torch.float32 for a in ours)
    scale = float(theirs[0].std())
    distance = float((ours[0] - theirs[0]).abs().max())
    assert 1e-5 * scale < distance < 0.5 * scale


def test_mixed_precision_of_the_student_is_not_the_teachers():
    model = teacher('x3d')
    wanted = model(clips()).logits
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(model(clips()).logits, wanted)


def test_compile_is_of_the_backbone(monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, 'compile', lambda m: compiled.append(m))
    model = teacher('mvit', compile=True)
    model.apply_speedups()
    assert compiled == [model.recognizer.backbone]


def test_compiled_teachers_tell_what_each_call_asks_for(monkeypatch):
    """The tap's hooks, other ones in every call, are part of the graph."""
    compile_module = nn.Module.compile
    monkeypatch.setattr(
        nn.Module, 'compile', lambda m: compile_module(m, backend='eager')
    )
    stock, compiled = teacher('mvit'), teacher('mvit')
    compiled.spec['compile'] = True
    compiled.apply_speedups()
    assert_same(
        [compiled(clips()).logits, compiled(clips()).map],
        [stock(clips()).logits, stock(clips()).map],
    )
    assert_same(answers(compiled), answers(stock))


@pytest.mark.parametrize('name', ['mvit', 'swin', 'x3d', 'timesformer'])
def test_a_copy_stands_alone(name):
    model = teacher(name)
    model.apply_speedups()
    wanted = answers(model)
    duplicate = copy.deepcopy(model.recognizer)
    for parameter in model.recognizer.parameters():
        parameter.data.zero_()
    model.recognizer, model.tap.recognizer = duplicate, duplicate
    for ours, theirs in zip(answers(model), wanted):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    'option, message',
    [
        (dict(speedups=dict(fold=True)), r"speedups names \['fold'\]"),
        (dict(speedups='fold_batchnorm'), r"speedups='fold.*True, False"),
        (dict(speedups=dict(channels_last='no')), r'speedups=.*True, False'),
        (dict(optimise=dict(fold=True)), r"optimise names \['fold'\]"),
        (dict(optimise=False, speedups=True), 'both speedups and optimise'),
        (dict(precision='int8'), "precision='int8'"),
        (dict(compile='max-autotune'), "compile='max-autotune'"),
        (dict(speed=1), r"unknown keys \['speed'\]"),
    ],
)
def test_bad_options(option, message):
    with pytest.raises((ValueError, TypeError), match=message):
        teacher('x3d', **option)


def test_the_old_name_of_speedups_still_works():
    for name in ('speedups', 'optimise'):
        model = teacher('x3d', **{name: dict(channels_last=False)})
        chosen = chosen_speedups(model.spec, 'key')
        assert set(SPEEDUPS) - set(chosen) == {'channels_last'}
        assert chosen_speedups({name: False}, 'key') == {}


def test_a_student_is_not_rewritten():
    spec = dict(cfg=MODELS['x3d'], optimise=True)
    with pytest.raises(TypeError, match=r'student\.optimise.*FastStudent'):
        build_student(spec, None, 'model.student')
