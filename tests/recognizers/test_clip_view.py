import pytest
import torch
import torch.nn.functional as F

from dtkd_mmaction.distillers import ClipView


def clips(frames=8, height=6, width=6):
    values = torch.arange(2 * 3 * frames * height * width)
    return (
        (values % 251).to(torch.uint8).reshape(2, 1, 3, frames, height, width)
    )


def test_whole_clip_is_untouched():
    clip = clips()
    assert ClipView()(clip) is clip
    assert ClipView(frames=8, size=6)(clip) is clip


@pytest.mark.parametrize(
    'frames, picked', [(4, [0, 2, 4, 6]), (3, [0, 2, 5]), (1, [0])]
)
def test_frames_are_evenly_spaced_from_the_first(frames, picked):
    clip = clips()
    assert torch.equal(ClipView(frames=frames)(clip), clip[:, :, :, picked])


def test_every_frame_is_resized_as_a_whole():
    clip = clips()
    view = ClipView(size=(3, 4))(clip)
    assert view.shape == (2, 1, 3, 8, 3, 4)
    frame = F.interpolate(
        clip[1, 0, :, 5][None].float(), (3, 4), mode='bilinear'
    )
    assert torch.allclose(view[1, 0, :, 5], frame[0])


def test_2d_recognizer_gets_frames_in_the_second_dimension():
    clip = clips()
    view = ClipView(frames=4, fold_frames=True)(clip)
    assert view.shape == (2, 4, 3, 6, 6)
    assert torch.equal(view[1, 3], clip[1, 0, :, 6])


def test_more_frames_than_the_clip_has():
    with pytest.raises(
        ValueError, match=r'model\.student\.view\.frames=16.*8 frames'
    ):
        ClipView(frames=16, key='model.student')(clips())


@pytest.mark.parametrize(
    'view',
    [dict(frames=0), dict(size=-1), dict(size='big'), dict(size=(3, 0))],
)
def test_impossible_views_name_their_key(view):
    with pytest.raises(ValueError, match=r'model\.x\.view\.'):
        ClipView(**view, key='model.x')
