"""PixelKD: what is drawn, at which size, against which frames."""

import pytest
import torch

from dtkd_mmaction.losses.pixelkd import (
    FITS,
    PixelKDLoss,
    evenly_spaced_frames,
    fit_frames,
    pixel_kd_loss,
)

STEM, CLIP = (4, 2, 3, 3), (3, 2, 6, 6)


def tensors(stem=STEM, clip=CLIP, size=2):
    torch.manual_seed(0)
    return torch.randn(size, *stem), torch.randn(size, *clip)


def build(stem=STEM, clip=CLIP, **options):
    torch.manual_seed(1)
    return PixelKDLoss(
        student_stem_shape=stem, teacher_clip_shape=clip, **options
    )


def by_loops(loss, stem, clip):
    """Equal frames, a ratio that is a whole number."""
    r = loss.magnification
    weight = loss.expand.weight.flatten(1)
    total = 0.0
    for b in range(len(clip)):
        for c in range(3):
            slope = float(loss.activation.weight[c].detach())
            for t in range(clip.shape[2]):
                for i in range(clip.shape[3]):
                    for j in range(clip.shape[4]):
                        row = c * r * r + (i % r) * r + j % r
                        drawn = float(
                            weight[row] @ stem[b, :, t, i // r, j // r]
                        )
                        drawn = max(drawn, 0) + slope * min(drawn, 0)
                        total += abs(drawn - float(clip[b, c, t, i, j]))
    return total / clip.numel()


@pytest.mark.parametrize('fit', FITS)
def test_against_loops(fit):
    loss, data = build(fit=fit), tensors()
    with torch.no_grad():
        loss.activation.weight.copy_(torch.tensor([0.1, 0.5, -1.0]))
        value = float(loss(*data))
        expected = 10 * by_loops(loss, *data)
    assert value == pytest.approx(expected, rel=1e-5)


def test_vectors_of_the_notes():
    clip = tensors()[1]
    assert pixel_kd_loss(clip, clip) == 0
    assert torch.equal(
        pixel_kd_loss(torch.zeros_like(clip), clip), clip.abs().mean()
    )
    # the order of the channels in a magnified pixel
    shuffle = build().shuffle
    drawn = shuffle(torch.arange(12.0).reshape(1, 12, 1, 1))
    assert drawn[0, 0].tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    'stem, clip, magnification',
    [
        ((24, 16, 80, 80), (3, 16, 224, 224), 3),  # X3D-S, ViT
        ((4, 2, 4, 4), (3, 2, 8, 8), 2),
        ((4, 2, 4, 4), (3, 2, 9, 9), 3),
        ((4, 2, 4, 8), (3, 2, 12, 12), 3),
        ((4, 2, 8, 8), (3, 2, 4, 4), 1),
        ((4, 1, 1, 1), (3, 2, 5, 5), 5),
    ],
)
def test_magnification_is_the_rounded_up_ratio(stem, clip, magnification):
    assert build(stem, clip).magnification == magnification


def test_there_is_no_bias():
    """A black stem draws a black clip, whatever the target."""
    stem, clip = tensors()
    value = build(loss_weight=1.0)(torch.zeros_like(stem), clip)
    assert torch.equal(value, clip.abs().mean())


def test_crop_draws_at_the_wrong_scale():
    """240 pixels for 224: resizing hits the place, cropping does not."""
    ramp = torch.linspace(0, 1, 240).expand(1, 3, 240, 240)
    target = torch.linspace(0, 1, 224).expand(1, 3, 224, 224)
    resized = fit_frames(ramp, (224, 224), 'resize')
    cropped = fit_frames(ramp, (224, 224), 'crop')
    assert torch.equal(cropped, ramp[:, :, :224, :224])
    assert (resized - target).abs().max() < 1e-3
    error = (cropped - target).abs()[0, 0, 0]
    assert error[0] < 1e-3 and error[-1] > 0.06


@pytest.mark.parametrize('fit', FITS)
def test_clips_whose_ratio_is_no_whole_number(fit):
    data = tensors((4, 2, 4, 4), (3, 2, 9, 7))
    value = build((4, 2, 4, 4), (3, 2, 9, 7), fit=fit)(*data)
    assert torch.isfinite(value)


def test_evenly_spaced_frames():
    clip = torch.arange(16.0).reshape(1, 1, 16, 1, 1)
    for count, frames in (
        (16, list(range(16))),
        (8, list(range(0, 16, 2))),
        (2, [0, 8]),
        (3, [0, 5, 10]),
        (1, [0]),
    ):
        assert evenly_spaced_frames(clip, count).flatten().tolist() == frames


@pytest.mark.parametrize('stem_frames, clip_frames', [(2, 4), (4, 2)])
def test_the_longer_one_is_thinned_out(stem_frames, clip_frames):
    stem, clip = tensors((4, stem_frames, 3, 3), (3, clip_frames, 6, 6))
    loss = build(stem.shape[1:], clip.shape[1:])
    picked = [x[:, :, ::2] if x.shape[2] == 4 else x for x in (stem, clip)]
    assert torch.equal(loss(stem, clip), loss(*picked))


def test_frames_are_drawn_one_by_one():
    """A change of one frame of the stem is seen in that frame alone."""
    stem = tensors()[0]
    loss = build()
    before = loss.reconstruct(stem)
    stem[1, :, 0] += 1
    changed = (loss.reconstruct(stem) != before).flatten(1).any(dim=1)
    assert changed.tolist() == [False, False, True, False]


def test_it_can_learn_the_clip():
    stem = torch.randn(1, 12, 1, 2, 2)
    clip = torch.rand(1, 3, 1, 4, 4)
    loss = build((12, 1, 2, 2), (3, 1, 4, 4), loss_weight=1.0)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.02)
    first = float(loss(stem, clip).detach())
    for _ in range(200):
        optimizer.zero_grad()
        value = loss(stem, clip)
        value.backward()
        optimizer.step()
    assert value < 0.1 * first


def test_gradient_only_to_the_student():
    stem, clip = (x.requires_grad_() for x in tensors())
    loss = build()
    loss(stem, clip).backward()
    assert stem.grad.abs().sum() > 0 and clip.grad is None
    assert all(p.grad.abs().sum() > 0 for p in loss.parameters())


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    stem, clip = (x.to(dtype) for x in tensors())
    value = build()(stem, clip)
    assert value.dtype == torch.float32 and torch.isfinite(value)


def test_shapes_that_do_not_match():
    clip = tensors()[1]
    with pytest.raises(ValueError, match='reconstruction is'):
        pixel_kd_loss(clip[:, :, :1], clip)


def test_unknown_fit():
    with pytest.raises(ValueError, match="fit='pad'.*'crop', 'resize'"):
        build(fit='pad')
    with pytest.raises(ValueError, match="fit='pad'.*'crop', 'resize'"):
        fit_frames(torch.zeros(1, 3, 2, 2), (1, 1), 'pad')
