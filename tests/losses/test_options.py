import pytest

from dtkd_mmaction.losses import (
    DATWLoss,
    KDLoss,
    RKDLoss,
    StructureDiscrepancyLoss,
)
from dtkd_mmaction.losses.options import check_choice, preset_options

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
