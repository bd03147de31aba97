"""Pipelines that give the clips of a student's view."""

import numpy as np
import pytest
from mmaction.registry import TRANSFORMS

from dtkd_mmaction.datasets.evaluation_pipeline import (
    fit_pipeline,
    replace_pipelines,
)

FRAMES = 300


def pipeline(crop=None, scale=(-1, 256), **sampler):
    if crop is None:
        crop = dict(type='CenterCrop', crop_size=224)
    sampling = dict(clip_len=16, frame_interval=4, num_clips=10)
    return [
        dict(type='SampleFrames', test_mode=True, **{**sampling, **sampler}),
        dict(type='Resize', scale=scale),
        dict(crop),
        dict(type='FormatShape', input_format='NCTHW'),
    ]


def run(transforms, height=240, width=320):
    """Frame indices and the packed clips of a video of noise."""
    results = dict(total_frames=FRAMES, start_index=0, modality='RGB')
    for transform in transforms:
        if transform['type'] == 'Resize':  # behind the decoder
            results['imgs'] = [
                np.full((height, width, 3), i % 256, np.uint8)
                for i in results['frame_inds']
            ]
            results['original_shape'] = (height, width)
            results['img_shape'] = (height, width)
        results = TRANSFORMS.build(transform)(results)
    return results['frame_inds'], results['imgs'].shape


def test_frames_and_size():
    before, _ = run(pipeline())
    inds, shape = run(fit_pipeline(pipeline(), 8, 112))
    assert shape == (10, 3, 8, 112, 112)
    before, inds = before.reshape(10, 16), inds.reshape(10, 8)
    assert inds[0].tolist() == before[0, ::2].tolist()
    # The distance of the clips follows from their length, which changes by
    # the frames behind the last one.
    assert abs(inds - before[:, ::2]).max() <= 4


def test_the_same_part_of_the_picture():
    fitted = fit_pipeline(pipeline(), size=112)
    assert fitted[1]['scale'] == (-1, 128)
    assert fitted[0] == pipeline()[0]


@pytest.mark.parametrize('crop', ['ThreeCrop', 'TenCrop'])
def test_one_view(crop):
    transforms = pipeline(dict(type=crop, crop_size=256))
    _, shape = run(fit_pipeline(transforms, 16, 160, one_view=True))
    assert shape == (1, 3, 16, 160, 160)
    _, shape = run(fit_pipeline(transforms, 16, 160))
    crops = dict(ThreeCrop=3, TenCrop=10)[crop]
    assert shape == (10 * crops, 3, 16, 160, 160)


def test_a_view_that_is_no_square():
    _, shape = run(fit_pipeline(pipeline(), size=(96, 128)))
    assert shape[-2:] == (96, 128)
    squeezed = [
        *pipeline()[:1],
        dict(type='Resize', scale=(224, 224), keep_ratio=False),
        pipeline()[-1],
    ]
    _, shape = run(fit_pipeline(squeezed, size=(96, 128)))
    assert shape[-2:] == (96, 128)


def test_frames_of_a_2d_recognizer():
    transforms = pipeline(clip_len=1, frame_interval=1, num_clips=8)
    transforms[-1]['input_format'] = 'NCHW'
    _, shape = run(fit_pipeline(transforms, 4, 112, one_view=True))
    assert shape == (4, 3, 112, 112)


def test_the_given_pipeline_stays():
    given = pipeline()
    fit_pipeline(given, 8, 112, one_view=True)
    assert given == pipeline()


@pytest.mark.parametrize(
    'transforms, said',
    [
        ([dict(type='Resize', scale=(-1, 256))], 'size by hand'),
        ([dict(type='FormatShape')], 'size by hand'),
        ([dict(type='CenterCrop', crop_size=9)], 'frames by hand'),
    ],
)
def test_what_cannot_be_fitted(transforms, said):
    with pytest.raises(ValueError, match=said):
        fit_pipeline(transforms, 8 if 'frames' in said else None, 112)


def test_wrappers_are_looked_into():
    dataset = dict(
        type='ConcatDataset',
        datasets=[
            dict(type='RepeatDataset', dataset=dict(pipeline=pipeline())),
            dict(pipeline=pipeline()),
        ],
    )
    replace_pipelines(dataset, dict(frames=8, size=112), False)
    expected = fit_pipeline(pipeline(), 8, 112)
    first, second = dataset['datasets']
    assert first['dataset']['pipeline'] == expected
    assert second['pipeline'] == expected
