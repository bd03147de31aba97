import pytest
import torch
from mmaction.models.backbones.x3d import SEModule
from mmcv.cnn import NonLocal3d
from torch import nn

from dtkd_mmaction.modules import StructureDiscrepancyBranch
from dtkd_mmaction.modules.structure_discrepancy_branch import (
    FusedNonLocal3d,
)


def student_map(batch=2, channels=16, seed=0):
    """Non-negative, as after a ReLU."""
    torch.manual_seed(seed)
    return torch.rand(batch, channels, 3, 4, 4)


@pytest.mark.parametrize('use_nonlocal', [True, False])
@pytest.mark.parametrize('use_se', [True, False])
@pytest.mark.parametrize('out_channels', [None, 20])
def test_shapes_and_gradient(use_nonlocal, use_se, out_channels):
    """The rows of Table 6; the gradient reaches the student (C15)."""
    branch = StructureDiscrepancyBranch(
        16, out_channels, use_nonlocal=use_nonlocal, use_se=use_se
    )
    assert [type(layer) for layer in branch.layers] == [
        *([FusedNonLocal3d] * use_nonlocal),
        *([SEModule] * use_se),
        nn.Conv3d,
    ]
    student = student_map().requires_grad_()
    out = branch(student)
    assert out.shape == (2, out_channels or 16, 3, 4, 4)
    out.square().sum().backward()
    assert student.grad.abs().sum() > 0


def test_widths_inside():
    branch = StructureDiscrepancyBranch(432)
    nonlocal_block, se, out_proj = branch.layers
    assert nonlocal_block.mode == 'embedded_gaussian'
    assert nonlocal_block.inter_channels == 216
    assert se.bottleneck == 32  # 432 / 16 = 27, to a multiple of 8
    assert out_proj.kernel_size == (1, 1, 1)
    for width in (640, 2048):  # MoViNet, SlowFast
        wide = StructureDiscrepancyBranch(width)
        assert wide.layers[0].inter_channels == 128
    other = StructureDiscrepancyBranch(64, reduction=4, se_ratio=2)
    assert other.layers[0].inter_channels == 16
    assert other.layers[1].bottleneck == 32


@pytest.mark.parametrize('channels_last', [False, True])
def test_fused_attention_is_the_stock_block(channels_last):
    options = dict(norm_cfg=dict(type='BN3d'), zeros_init=False)
    torch.manual_seed(0)
    stock = NonLocal3d(16, **options)
    for parameter in stock.parameters():
        nn.init.normal_(parameter, std=0.5)
    fused = FusedNonLocal3d(16, **options)
    fused.load_state_dict(stock.state_dict())
    gradients = []
    for block in (stock, fused):
        x = student_map()
        if channels_last and block is fused:
            x = x.to(memory_format=torch.channels_last_3d)
        x.requires_grad_()
        out = block(x)
        (out.sin().sum()).backward()
        gradients.append((out, x.grad, block.theta.conv.weight.grad))
    for ours, theirs in zip(*gradients):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert gradients[0][2].abs().max() > 1e-4


def test_memory_does_not_grow_with_the_square_of_the_grid():
    """Bytes that autograd keeps, at 512 and at 1024 positions."""

    def kept(frames):
        found = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: found.append(t.numel()) or t, lambda t: t
        ):
            FusedNonLocal3d(8, norm_cfg=dict(type='BN3d'))(
                torch.rand(1, 8, frames, 8, 8, requires_grad=True)
            )
        return sum(found)

    assert kept(16) < 2.1 * kept(8)


def test_starts_local():
    """The non-local block is the identity until it has learnt."""
    x = student_map()
    for training in (True, False):
        branch = StructureDiscrepancyBranch(16, use_se=False, out_proj=False)
        assert torch.equal(branch.train(training)(x), x)


def test_non_local_block_can_start_to_learn():
    branch = StructureDiscrepancyBranch(16, use_se=False)
    branch(student_map()).square().sum().backward()
    assert branch.layers[0].conv_out.bn.weight.grad.abs().sum() > 0


def test_sees_far_once_it_has_learnt():
    branch = StructureDiscrepancyBranch(16, use_se=False).eval()
    near = student_map(1)
    far = near.clone()
    far[..., 3, 3] += 5

    def change():
        return (branch(far) - branch(near)).abs()[..., 0, 0].max()

    assert change() == 0
    nn.init.ones_(branch.layers[0].conv_out.bn.weight)
    assert change() > 1e-6


def test_squeeze_excitation_scales_whole_channels():
    x = student_map()
    branch = StructureDiscrepancyBranch(16, use_nonlocal=False, out_proj=False)
    ratio = branch(x) / x
    assert torch.allclose(ratio, ratio[:, :, :1, :1, :1].expand_as(x))
    assert (ratio > 0).all() and (ratio < 1).all()


def test_sign_of_the_output():
    """As printed, it starts as the student's map scaled down: never
    negative, though a residual is."""
    x = student_map()
    printed = StructureDiscrepancyBranch(16, out_proj=False)(x)
    assert (printed >= 0).all()
    out = StructureDiscrepancyBranch(16)(x)
    assert (out < 0).any() and (out > 0).any()


def test_width_cannot_change_without_the_projection():
    with pytest.raises(ValueError, match='16.*20.*out_proj=True'):
        StructureDiscrepancyBranch(16, 20, out_proj=False)


def test_is_registered():
    from mmaction.registry import MODELS

    branch = MODELS.build(
        dict(type='StructureDiscrepancyBranch', in_channels=16)
    )
    assert isinstance(branch, StructureDiscrepancyBranch)
