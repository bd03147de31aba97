"""Validation pipelines of MMAction2, in NumPy and OpenCV.

Gives the same frames and pixels as MMAction2's own transforms in test mode,
from their configs, so a file that holds its pipeline needs no PyTorch.
"""

import copy
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import numpy as np

Frames = List[np.ndarray]

# They open and decode, or pack: frames.py and the caller do that.
NO_CHANGE = (
    'DecordInit',
    'OpenCVInit',
    'PyAVInit',
    'SegmentInit',
    'DecordDecode',
    'FrameExactDecode',
    'OpenCVDecode',
    'PyAVDecode',
    'PackActionInputs',
)


class PipelineError(ValueError):
    """A pipeline that cannot be run here."""


class Sample(NamedTuple):
    """Which frames of a video make its clips.

    Attributes:
        numbers (np.ndarray): Frame numbers, (clips * length,).
        clips (int): Number of clips.
        length (int): Frames per clip.
    """

    numbers: np.ndarray
    clips: int
    length: int


class ClipPipeline:
    """Sampling, resizing and cropping of a stock pipeline.

    Args:
        transforms (list[dict]): Configs of the transforms.

    Attributes:
        in_order (bool): Whether it decodes without seeking.

    Raises:
        PipelineError: If it has a transform that is random or unknown.
    """

    def __init__(self, transforms: List[dict]) -> None:
        self._sampler: Dict[str, Any] = {}
        self._pixels: List[Tuple[Callable, dict]] = []
        self._input_format = ''
        self.in_order = False
        for transform in transforms:
            options = dict(transform)
            name = str(options.pop('type')).split('.')[-1]
            if name in SAMPLERS:
                if not options.pop('test_mode', False):
                    raise PipelineError(
                        f'{name} of the pipeline samples at random: set '
                        'test_mode=True.'
                    )
                self._sampler = dict(options, type=name)
            elif name in PIXELS:
                self._pixels.append((PIXELS[name], options))
            elif name == 'FormatShape':
                self._input_format = options['input_format']
            elif name == 'Flip' and options.get('flip_ratio', 0.5) == 0:
                continue
            elif name not in NO_CHANGE:
                raise PipelineError(
                    f'The pipeline has the transform {name}, which cannot be '
                    f'run here. Known are {[*SAMPLERS, *PIXELS]}.'
                )
            self.in_order |= name == 'FrameExactDecode'
        if not self._sampler or self._input_format not in ('NCTHW', 'NCHW'):
            raise PipelineError(
                f'The pipeline needs one of {list(SAMPLERS)} and a '
                "FormatShape with input_format='NCTHW' or 'NCHW'."
            )

    @property
    def folds_frames(self) -> bool:
        """Whether it makes the frames of a 2-D recognizer."""
        return self._input_format == 'NCHW'

    def one_clip(self) -> 'ClipPipeline':
        """Returns a pipeline that samples one clip of a short window."""
        if self._sampler.get('clip_len', 1) == 1:
            return self  # its clips are the frames of one vote
        other = copy.copy(self)
        other._sampler = dict(self._sampler, num_clips=1, twice_sample=False)
        if self._sampler['type'] == 'DenseSampleFrames':
            other._sampler.update(num_sample_positions=1)
        return other

    @property
    def span(self) -> int:
        """Frames from the first to the last one of a clip; 1 if it varies."""
        if self._sampler['type'] == 'UniformSample':
            return 1
        return (self._sampler['clip_len'] - 1) * self.interval + 1

    @property
    def interval(self) -> int:
        """Distance of the frames of a clip."""
        return self._sampler.get('frame_interval', 1)

    def sample(self, total: int, fps: float) -> Sample:
        """Returns the frames to read of a video of ``total`` frames."""
        return SAMPLERS[self._sampler['type']](self._sampler, total, fps)

    def pixels(self, frames: Frames) -> Frames:
        """Resizes and crops frames; crops follow one after the other."""
        for function, options in self._pixels:
            frames = function(frames, **options)
        return frames

    def clips(self, frames: Frames, sample: Sample) -> np.ndarray:
        """Makes clips of the frames of a sample.

        Returns:
            np.ndarray: ``uint8``, (V, T, H, W, 3), or (1, M, H, W, 3) for a
                2-D recognizer.
        """
        images = np.stack(self.pixels(frames))
        if self.folds_frames:
            return images[None]
        return images.reshape(-1, sample.length, *images.shape[1:])


def sample_frames(options: dict, total: int, fps: float) -> Sample:
    """Samples as ``SampleFrames``."""
    length, clips = options['clip_len'], options.get('num_clips', 1)
    interval = options.get('frame_interval', 1)
    twice = options.get('twice_sample', False)
    target = options.get('target_fps')
    extent: float = (length - 1) * interval + 1
    if target is not None:
        ratio = fps / target if fps else 1.0
        extent = max(1.0, length * interval * ratio)
    if length == 1:
        distance = total / float(clips)
        starts = np.arange(clips) * distance
        middle = starts + distance / 2.0
        starts = np.concatenate([middle, starts]) if twice else middle
    else:
        last = max(total - extent, 0)
        count = clips * 2 if twice else clips
        if count == 1:
            starts = np.array([last // 2])
        elif target is not None:
            starts = np.arange(count) * np.floor(last / (clips - 1))
        else:
            starts = np.round(np.arange(count) * (last / (clips - 1)))
    if target:
        steps = np.linspace(0, extent - 1, length).astype(np.int32)
    else:
        steps = np.arange(length) * interval
    numbers = _inside(starts[:, None] + steps, total, options)
    return Sample(numbers, clips, length)


def dense_sample_frames(options: dict, total: int, fps: float) -> Sample:
    """Samples as ``DenseSampleFrames``."""
    del fps
    length, clips = options['clip_len'], options.get('num_clips', 1)
    extent = options.get('sample_range', 64)
    positions = options.get('num_sample_positions', 10)
    begins = np.linspace(0, max(0, total - extent), positions, dtype=int)
    offsets = np.arange(clips) * (extent // clips)
    starts = ((begins[:, None] + offsets) % total).ravel()
    steps = np.arange(length) * options.get('frame_interval', 1)
    numbers = _inside(starts[:, None] + steps, total, options)
    return Sample(numbers, clips, length)


def uniform_sample(options: dict, total: int, fps: float) -> Sample:
    """Samples as ``UniformSample``."""
    del fps
    length, clips = options['clip_len'], options.get('num_clips', 1)
    segment = (total - 1) / length
    shift = segment / (clips + 1)
    numbers = [
        int(np.round(segment * i)) + int(shift * (k + 1))
        for k in range(clips)
        for i in range(length)
    ]
    return Sample(np.array(numbers), clips, length)


def resize(
    frames: Frames,
    scale: Any,
    keep_ratio: bool = True,
    interpolation: str = 'bilinear',
    lazy: bool = False,
) -> Frames:
    """Resizes as ``Resize``."""
    import cv2

    _refuse_lazy(lazy)
    height, width = frames[0].shape[:2]
    if not keep_ratio:
        size = tuple(scale)
    else:
        factor = scale
        if not isinstance(scale, float):
            short, long = min(scale), max(scale)
            if short == -1:
                short, long = long, np.inf
            sides = min(height, width), max(height, width)
            factor = min(long / sides[1], short / sides[0])
        size = (int(width * factor + 0.5), int(height * factor + 0.5))
    code = dict(
        nearest=cv2.INTER_NEAREST,
        bilinear=cv2.INTER_LINEAR,
        bicubic=cv2.INTER_CUBIC,
        area=cv2.INTER_AREA,
        lanczos=cv2.INTER_LANCZOS4,
    )[interpolation]
    return [cv2.resize(frame, size, interpolation=code) for frame in frames]


def center_crop(frames: Frames, crop_size: Any, lazy: bool = False) -> Frames:
    """Crops as ``CenterCrop``."""
    _refuse_lazy(lazy)
    height, width = frames[0].shape[:2]
    crop_width, crop_height = _pair(crop_size)
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return [
        frame[top : top + crop_height, left : left + crop_width]
        for frame in frames
    ]


def three_crop(frames: Frames, crop_size: Any) -> Frames:
    """Crops as ``ThreeCrop``: both ends of the long side, then the middle."""
    height, width = frames[0].shape[:2]
    crop_width, crop_height = _pair(crop_size)
    if crop_height != height and crop_width != width:
        raise PipelineError(
            f'ThreeCrop(crop_size={crop_size}) needs frames with that height '
            f'or width, found {width}x{height}. Put a Resize before it.'
        )
    step = (width - crop_width) // 2, (height - crop_height) // 2
    return [
        frame[y : y + crop_height, x : x + crop_width]
        for times in (0, 2, 1)
        for x, y in [(times * step[0], times * step[1])]
        for frame in frames
    ]


def ten_crop(frames: Frames, crop_size: Any) -> Frames:
    """Crops as ``TenCrop``: corners and centre, each mirrored as well."""
    height, width = frames[0].shape[:2]
    crop_width, crop_height = _pair(crop_size)
    x, y = (width - crop_width) // 4, (height - crop_height) // 4
    crops = []
    corners = ((0, 0), (4 * x, 0), (0, 4 * y), (4 * x, 4 * y), (2 * x, 2 * y))
    for left, top in corners:
        crop = [
            frame[top : top + crop_height, left : left + crop_width]
            for frame in frames
        ]
        crops += crop
        crops += [image[:, ::-1] for image in crop]
    return crops


SAMPLERS: Dict[str, Callable[[dict, int, float], Sample]] = dict(
    SampleFrames=sample_frames,
    DenseSampleFrames=dense_sample_frames,
    UniformSample=uniform_sample,
)
PIXELS: Dict[str, Callable[..., Frames]] = dict(
    Resize=resize,
    CenterCrop=center_crop,
    ThreeCrop=three_crop,
    TenCrop=ten_crop,
)


def _inside(numbers: np.ndarray, total: int, options: dict) -> np.ndarray:
    """Brings frame numbers (clips, length) into the video, flattened."""
    if options.get('out_of_bound_opt', 'loop') == 'loop':
        numbers = np.mod(numbers, total)
    else:
        inside = numbers < total
        last = np.max(inside * numbers, axis=1, keepdims=True)
        numbers = np.where(inside, numbers, last)
    return numbers.astype(np.int32).ravel()


def _pair(size: Any) -> Tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _refuse_lazy(lazy: bool) -> None:
    if lazy:
        raise PipelineError('lazy=True of the pipeline cannot be run here.')
