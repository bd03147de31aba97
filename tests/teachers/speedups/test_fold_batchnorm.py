"""BatchNorm is folded where it alone reads a convolution's output."""

import pytest
import torch
import torch.nn as nn
from timm.layers import BatchNormAct2d, ScaledStdConv2d, create_conv2d
from timm.layers.drop import DropBlock2d
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrizations

from dtkd_mmaction.teachers.speedups.apply import undo_all
from dtkd_mmaction.teachers.speedups.fold_batchnorm import fold_batchnorm


class Block(nn.Module):
    """Convolution and BatchNorm as attributes, as most packages have them."""

    def __init__(self, convolution=None, norm=None):
        super().__init__()
        self.convolution = convolution or nn.Conv2d(4, 6, 3, bias=False)
        self.norm = norm or nn.BatchNorm2d(6)

    def forward(self, x):
        return self.norm(self.convolution(x))


class ReadTwice(Block):
    def forward(self, x):
        x = self.convolution(x)
        return self.norm(x) + x.mean()


class CalledTwice(Block):
    def forward(self, x):
        return self.norm(self.convolution(x)) + self.norm(self.convolution(-x))


class TwoNorms(Block):
    def __init__(self):
        super().__init__()
        self.other = nn.BatchNorm2d(6)

    def forward(self, x):
        x = self.convolution(x)
        return self.norm(x) + self.other(x)


class Between(Block):
    """Something else changes the output before it is normalised."""

    def forward(self, x):
        return self.norm(self.convolution(x).relu())


def prepare(model):
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            module.running_mean.uniform_(-1, 1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            if module.affine:
                module.weight.data.uniform_(0.5, 2, generator=generator)
                module.bias.data.uniform_(-1, 1, generator=generator)
    return model.eval().requires_grad_(False)


def fold(model, example=None, returns=lambda model, x: dict(y=model(x))):
    """Folds and returns (undo, outputs before, outputs after)."""
    prepare(model)
    if example is None:
        example = torch.randn(2, 4, 9, 9)

    def run():
        return returns(model, example)

    with torch.no_grad():
        before = {name: y.clone() for name, y in run().items()}
        undo = fold_batchnorm(model, run)
        return undo, before, run()


def assert_folded(model, *options):
    undo, before, after = fold(model, *options)
    assert undo
    assert not any(isinstance(m, _BatchNorm) for m in model.modules())
    for name, wanted in before.items():
        assert torch.allclose(after[name], wanted, atol=1e-5)
    undo_all(undo)
    assert any(isinstance(m, _BatchNorm) for m in model.modules())


@pytest.mark.parametrize(
    'convolution',
    [
        nn.Conv2d(4, 6, 3),
        nn.Conv2d(4, 6, 3, bias=False, stride=2, padding=1),
        nn.Conv2d(4, 6, 3, groups=2, dilation=2),
        # A subclass that pads in its forward pass.
        create_conv2d(4, 6, 3, stride=2, padding='same'),
    ],
)
def test_convolutions(convolution):
    assert_folded(Block(convolution))


def test_in_three_dimensions():
    model = Block(nn.Conv3d(4, 6, (1, 3, 3)), nn.BatchNorm3d(6))
    assert_folded(model, torch.randn(2, 4, 3, 9, 9))


def test_without_affine_parameters():
    assert_folded(Block(norm=nn.BatchNorm2d(6, affine=False)))


def test_activations_of_timm_are_kept():
    for options in (
        dict(act_layer=nn.SiLU),
        dict(act_layer=nn.Hardswish, drop_layer=DropBlock2d),
        dict(apply_act=False),
    ):
        model = Block(norm=BatchNormAct2d(6, **options))
        assert_folded(model)


def test_a_norm_under_two_names():
    model = Block()
    model.alias = model.norm
    assert_folded(model)


@pytest.mark.parametrize(
    'model',
    [
        ReadTwice(),
        CalledTwice(),
        TwoNorms(),
        Between(),
        Block(norm=nn.BatchNorm2d(6, track_running_stats=False)),
        # The weight is standardised or computed anew in each pass.
        Block(ScaledStdConv2d(4, 6, 3)),
        Block(parametrizations.weight_norm(nn.Conv2d(4, 6, 3))),
        Block(nn.utils.weight_norm(nn.Conv2d(4, 6, 3))),
    ],
    ids=lambda model: type(model).__name__,
)
def test_left_alone(model):
    undo, before, after = fold(model)
    assert undo == []
    assert torch.equal(before['y'], after['y'])


def test_an_unknown_kind_of_norm_is_left_alone():
    class Shifted(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x) + 1

    assert fold(Block(norm=Shifted(6)))[0] == []


def test_a_convolution_whose_output_is_wanted_is_left_alone():
    """A tapped stem: its output is returned, or read and returned."""

    def returned(change):
        def returns(model, x):
            raw = model.convolution(x)
            return dict(y=model.norm(raw), raw=change(raw))

        return returns

    for change in (lambda raw: raw, lambda raw: raw.flatten(2)):
        undo, before, after = fold(Block(), None, returned(change))
        assert undo == []


def test_only_the_pairs_that_fit():
    model = nn.Sequential(Block(), ReadTwice(nn.Conv2d(6, 6, 3)))
    fold(model)
    assert isinstance(model[0].norm, nn.Identity)
    assert isinstance(model[1].norm, nn.BatchNorm2d)
