"""ClipCorruption: what changes, what never does."""

import pytest
import torch

from dtkd_mmaction.modules.clip_corruption import (
    ClipCorruption,
    jitter_colours,
    random_patches,
)


def clips(size=6, frames=3, height=20, width=28, dtype=torch.uint8):
    torch.manual_seed(0)
    shape = (size, 1, 3, frames, height, width)
    return torch.randint(0, 256, shape).to(dtype)


@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32, torch.float16])
def test_form_is_kept_and_the_input_too(dtype):
    inputs = clips(dtype=dtype)
    before = inputs.clone()
    outputs = ClipCorruption(probability=1.0)(inputs)
    assert torch.equal(inputs, before)
    assert outputs.shape == inputs.shape and outputs.dtype == dtype
    assert outputs.min() >= 0 and outputs.max() <= 255
    changed = (outputs != inputs).flatten(1).any(dim=1)
    assert changed.all()


def test_about_half_of_the_clips():
    inputs = clips(400, 1, 4, 4)
    outputs = ClipCorruption()(inputs)
    changed = (outputs != inputs).flatten(1).any(dim=1)
    assert 0.4 < changed.float().mean() < 0.6


def test_nothing_happens_in_a_test():
    inputs = clips()
    corruption = ClipCorruption(probability=1.0)
    assert corruption.eval()(inputs) is inputs
    assert torch.equal(ClipCorruption(probability=0.0)(inputs), inputs)


@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32])
def test_neutral_strengths_change_nothing(dtype):
    inputs = clips(dtype=dtype)
    corruption = ClipCorruption(probability=1.0, jitter=0.0, mask_ratio=0.0)
    assert torch.allclose(
        corruption(inputs).float(), inputs.float(), atol=1e-3
    )


def test_all_frames_of_a_clip_get_the_same():
    inputs = clips(frames=1).expand(-1, -1, -1, 4, -1, -1)
    outputs = ClipCorruption(probability=1.0, patch_size=5)(inputs)
    assert torch.equal(outputs, outputs[:, :, :, :1].expand_as(outputs))
    assert not torch.equal(outputs[0], outputs[1])


def test_patches():
    inputs = clips(20, 2, 10, 14, torch.float32)
    corruption = ClipCorruption(
        probability=1.0, jitter=0.0, patch_size=4, mask_ratio=0.5
    )
    outputs = corruption(inputs)
    mean = inputs.mean(dim=(3, 4, 5), keepdim=True)
    masked = (outputs - mean).abs().amax(dim=(2, 3)) < 1e-2
    kept = (outputs - inputs).abs().amax(dim=(2, 3)) < 1e-2
    assert (masked ^ kept).all()
    for row in range(0, 10, 4):
        for column in range(0, 14, 4):
            patch = masked[..., row : row + 4, column : column + 4].flatten(1)
            assert torch.equal(patch.all(dim=1), patch.any(dim=1))
    assert 0.4 < masked.float().mean() < 0.6


def test_patches_of_a_size_that_does_not_divide():
    mask = random_patches(500, (5, 7), 4, 0.25, 'cpu')
    assert mask.shape == (500, 1, 1, 1, 5, 7)
    assert mask.float().mean() == pytest.approx(0.25, abs=0.05)


def test_nothing_moves():
    """An edge stays where it is."""
    inputs = torch.full((8, 1, 3, 1, 8, 8), 60.0)
    inputs[..., 3:] = 160.0
    outputs = jitter_colours(inputs, 0.4)
    left, right = outputs[..., :3], outputs[..., 3:]
    assert torch.allclose(left, left[..., :1, :1].expand_as(left))
    assert torch.allclose(right, right[..., :1, :1].expand_as(right))
    assert (right[..., 0, 0] > left[..., 0, 0]).all()


def test_jitter_changes_brightness_contrast_and_saturation():
    torch.manual_seed(0)
    colourful = 100 + 20 * torch.rand(200, 1, 3, 1, 4, 4)
    outputs = jitter_colours(colourful, 0.4)
    brightness = outputs.mean(dim=(1, 2, 3, 4, 5))
    assert brightness.min() < 75 and brightness.max() > 140
    assert outputs.std(dim=(2, 3, 4, 5)).std() > 1
    # grey clips have no saturation to change
    grey = colourful[:, :, :1].expand_as(colourful)
    outputs = jitter_colours(grey, 0.4)
    assert torch.allclose(outputs, outputs[:, :, :1].expand_as(outputs))


@pytest.mark.parametrize(
    'options',
    [
        dict(probability=1.5),
        dict(jitter=-0.1),
        dict(mask_ratio=2),
        dict(patch_size=0),
    ],
)
def test_bad_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ClipCorruption(**options)
