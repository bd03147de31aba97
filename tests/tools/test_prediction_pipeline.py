"""The pipeline without PyTorch gives the pixels of MMAction2's."""

import numpy as np
import pytest
from mmengine.dataset import Compose
from noise_clips import write_clips
from prediction import frames
from prediction.frames import Stream, Video, VideoError
from prediction.pipeline import ClipPipeline, PipelineError

SAMPLERS = dict(
    centre=dict(type='SampleFrames', clip_len=4, frame_interval=2),
    clips=dict(type='SampleFrames', clip_len=4, frame_interval=3, num_clips=3),
    looped=dict(type='SampleFrames', clip_len=9, frame_interval=7),
    repeated=dict(
        type='SampleFrames',
        clip_len=9,
        frame_interval=7,
        out_of_bound_opt='repeat_last',
    ),
    other_rate=dict(
        type='SampleFrames',
        clip_len=3,
        frame_interval=2,
        num_clips=2,
        target_fps=7,
    ),
    segments=dict(type='SampleFrames', clip_len=1, num_clips=5),
    segments_twice=dict(
        type='SampleFrames', clip_len=1, num_clips=5, twice_sample=True
    ),
    dense=dict(
        type='DenseSampleFrames',
        clip_len=1,
        num_clips=4,
        sample_range=10,
        num_sample_positions=3,
    ),
    uniform=dict(type='UniformSample', clip_len=5, num_clips=2),
)
PIXELS = dict(
    crop=[
        dict(type='Resize', scale=(-1, 40)),
        dict(type='CenterCrop', crop_size=32),
    ],
    three=[
        dict(type='Resize', scale=(-1, 32)),
        dict(type='ThreeCrop', crop_size=32),
    ],
    ten=[
        dict(type='Resize', scale=(50, 41), keep_ratio=False),
        dict(type='TenCrop', crop_size=32),
    ],
    inside=[
        dict(type='Resize', scale=(53, 29), interpolation='bicubic'),
        dict(type='Flip', flip_ratio=0),
    ],
)


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp('clip')
    write_clips(folder, dict(clip=1), frames=31)
    return str(folder / 'clip_0.mp4')


def pipeline_of(sampler, pixels, exact=False):
    single = sampler.get('clip_len') == 1
    return [
        dict(type='DecordInit'),
        dict(sampler, test_mode=True),
        dict(type='FrameExactDecode' if exact else 'DecordDecode'),
        *pixels,
        dict(type='FormatShape', input_format='NCHW' if single else 'NCTHW'),
        dict(type='PackActionInputs'),
    ]


def ours(config, clip):
    pipeline = ClipPipeline(config)
    video = Video(clip, pipeline.in_order)
    sample = pipeline.sample(video.length, video.fps)
    return pipeline.clips(video.frames(sample.numbers), sample)


@pytest.mark.parametrize(
    'sampler, pixels',
    [(name, 'crop') for name in SAMPLERS]
    + [(name, p) for name in ('clips', 'dense') for p in PIXELS],
)
def test_pixels_are_those_of_mmaction2(clip, sampler, pixels):
    exact = sampler == 'clips'
    config = pipeline_of(SAMPLERS[sampler], PIXELS[pixels], exact)
    data = dict(filename=clip, label=0, start_index=0, modality='RGB')
    stock = Compose(config)(data)['inputs'].numpy()
    found = ours(config, clip)
    if stock.ndim == 4:  # (M, 3, H, W)
        assert np.array_equal(found[0].transpose(0, 3, 1, 2), stock)
    else:
        assert np.array_equal(found.transpose(0, 4, 1, 2, 3), stock)


def test_random_and_unknown_transforms_are_refused():
    config = pipeline_of(SAMPLERS['clips'], PIXELS['crop'])
    random = [dict(t) for t in config]
    random[1]['test_mode'] = False
    with pytest.raises(PipelineError, match='set test_mode=True'):
        ClipPipeline(random)
    config.insert(3, dict(type='Flip', flip_ratio=0.5))
    with pytest.raises(PipelineError, match='the transform Flip, which'):
        ClipPipeline(config)
    with pytest.raises(PipelineError, match='needs one of'):
        ClipPipeline(config[:1])


def test_without_decord_opencv_reads_the_same_frames(clip, monkeypatch):
    numbers = [30, 2, 2, 17]
    video = Video(clip)
    expected = np.stack(video.frames(numbers))
    monkeypatch.setitem(frames.__dict__, '_DecordReader', missing)
    other = Video(clip)
    assert (other.length, other.fps) == (video.length, video.fps) == (31, 10)
    found = np.stack(other.frames(numbers))
    assert np.abs(found.astype(int) - expected).mean() < 2
    assert len(list(Stream(clip))) == 31


def missing(*_):
    raise ImportError


def test_what_is_no_video_is_named(tmp_path):
    with pytest.raises(VideoError, match='no.mp4: there is no such file'):
        Video(str(tmp_path / 'no.mp4'))
    text = tmp_path / 'text.mp4'
    text.write_text('no video')
    with pytest.raises(VideoError, match='text.mp4: decord cannot open it'):
        Video(str(text))
    with pytest.raises(VideoError, match='no such stream or file'):
        Stream(str(text))
