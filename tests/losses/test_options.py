import inspect

import numpy as np
import pytest
import torch

from dtkd_mmaction import losses
from dtkd_mmaction.losses import (
    DATWLoss,
    KDLoss,
    RKDLoss,
    StructureDiscrepancyLoss,
)
from dtkd_mmaction.losses.options import (
    check_choice,
    check_ranges,
    option_range,
    options_out_of_range,
    preset_options,
)

PRESETS = dict(
    plain=dict(size=1, mode='a'),
    fancy=dict(size=2, mode='b'),
)


def test_the_users_options_lie_over_the_preset():
    options = preset_options('Thing', PRESETS, 'fancy', dict(size=5))
    assert options == dict(size=5, mode='b')
    assert PRESETS['fancy'] == dict(size=2, mode='b')  # untouched


def test_unknown_preset_lists_the_known():
    with pytest.raises(
        ValueError, match=r"Thing\(preset='big'\).*\['fancy', 'plain'\]"
    ):
        preset_options('Thing', PRESETS, 'big', {})


def test_unknown_option_lists_the_known():
    with pytest.raises(
        TypeError, match=r"Thing has no option \['sise'\].*'mode', 'size'"
    ):
        preset_options('Thing', PRESETS, 'plain', dict(sise=3))


def test_unknown_choice_lists_the_known():
    check_choice('Thing', 'mode', 'a', ('a', 'b'))
    with pytest.raises(ValueError, match=r"Thing\(mode='c'\).*\['a', 'b'\]"):
        check_choice('Thing', 'mode', 'c', ('b', 'a'))


@pytest.mark.parametrize('loss', [DATWLoss, StructureDiscrepancyLoss])
class TestPresetsOfTheLosses:
    def test_both_have_the_same_keys(self, loss):
        assert set(loss.PRESETS) == {'corrected', 'paper_literal'}
        corrected, literal = loss.PRESETS.values()
        assert corrected.keys() == literal.keys()

    def test_building_leaves_them_alone(self, loss):
        before = {name: dict(preset) for name, preset in loss.PRESETS.items()}
        loss()
        assert loss.PRESETS == before

    def test_unknown_preset(self, loss):
        with pytest.raises(ValueError, match=f'{loss.__name__}.preset=.x.'):
            loss(preset='x')

    def test_unknown_option(self, loss):
        with pytest.raises(TypeError, match=f'{loss.__name__} has no option'):
            loss(no_such_option=1)

    def test_every_named_option_is_checked_at_once(self, loss):
        named = [
            name
            for name, value in loss.PRESETS['corrected'].items()
            if isinstance(value, str)
        ]
        assert named
        for name in named:
            with pytest.raises(ValueError, match=f"{name}='x'.*choose one"):
                loss(**{name: 'x'})


@pytest.mark.parametrize(
    'loss', [DATWLoss, KDLoss, RKDLoss, StructureDiscrepancyLoss]
)
def test_every_loss_is_registered(loss):
    from mmaction.registry import MODELS

    built = MODELS.build(dict(type=loss.__name__, loss_weight=0.5))
    assert type(built) is loss and built.loss_weight == 0.5


LOSSES = [
    value
    for value in vars(losses).values()
    if isinstance(value, type) and issubclass(value, torch.nn.Module)
]
SHAPES = dict(
    student_shape=(8, 2, 4, 4),
    teacher_shape=(12, 2, 4, 4),
    student_shapes=[(8, 2, 8, 8), (8, 2, 4, 4), (8, 2, 2, 2)],
    teacher_shapes=[(8, 2, 8, 8), (8, 2, 4, 4), (8, 2, 2, 2)],
    student_width=8,
    teacher_width=12,
    student_stem_shape=(8, 2, 8, 8),
    teacher_clip_shape=(3, 2, 16, 16),
    num_classes=4,
    num_samples=6,
)


def ranged_options(loss):
    """Every option of a loss that has a range."""
    names = set(inspect.signature(loss.__init__).parameters)
    for preset in getattr(loss, 'PRESETS', {}).values():
        names |= set(preset)
    return sorted(name for name in names if option_range(name))


@pytest.mark.parametrize(
    'loss, option',
    [(loss, option) for loss in LOSSES for option in ranged_options(loss)],
    ids=lambda value: getattr(value, '__name__', value),
)
def test_every_ranged_option_of_every_loss_is_checked(loss, option):
    wanted = inspect.signature(loss.__init__).parameters
    shapes = {k: v for k, v in SHAPES.items() if k in wanted}
    loss(**shapes)
    for wrong in (-4, '1', float('nan'), True):
        with pytest.raises(ValueError) as caught:
            loss(**{**shapes, option: wrong})
        message = str(caught.value)
        assert f'{loss.__name__}({option}={wrong!r}): it must be' in message


@pytest.mark.parametrize(
    'option, right, wrong',
    [
        ('loss_weight', [0, 0.5, np.float32(2)], [-1e-3, None, float('inf')]),
        ('stage_weight', [0, 3], [-1]),
        ('tau', [0.07, 4], [0, -4]),
        ('zeta', [0, 0.5, 1], [-0.1, 1.1]),
        ('stages', [1, 3], [0, 2.0]),
        ('conf_temperature', [None, 1.0], [0]),
        ('seed', [0, 7], [-1, 2.5]),
    ],
)
def test_ranges(option, right, wrong):
    for value in right:
        assert not options_out_of_range({option: value})
    for value in wrong:
        assert options_out_of_range({option: value})


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(ValueError) as caught:
        check_ranges('model.', tau=-4, label_weight=-1, name='x')
    assert str(caught.value) == (
        'model.tau=-4: it must be a number > 0. '
        'model.label_weight=-1: it must be a number >= 0.'
    )
