"""Frames and size of the clips that a pipeline gives."""

from typing import Any, NamedTuple, Optional, Sequence, Tuple

FRAME_SAMPLERS = ('SampleFrames', 'DenseSampleFrames')
CROPS = ('RandomCrop', 'CenterCrop', 'ThreeCrop', 'TenCrop')
# After them the size of a frame differs from clip to clip.
RANDOM_SIZES = ('RandomResizedCrop', 'MultiScaleCrop', 'RandomRescale')


class ClipShape(NamedTuple):
    """Frames and size of a clip; None if the pipeline does not fix them.

    Attributes:
        frames (int, optional): Frames of one clip.
        size (tuple[int, int], optional): Height and width in pixels.
    """

    frames: Optional[int] = None
    size: Optional[Tuple[int, int]] = None

    def __str__(self) -> str:
        frames = '?' if self.frames is None else self.frames
        size = '?' if self.size is None else size_text(self.size)
        return f'{frames} frames of {size}'


def clip_shape(pipeline: Any) -> ClipShape:
    """Follows frames and size through the transforms of a pipeline.

    Args:
        pipeline (list[dict]): Stock transforms; others change nothing.
    """
    frames: Optional[int] = None
    size: Optional[Tuple[int, int]] = None
    if not isinstance(pipeline, Sequence):
        return ClipShape()
    for transform in pipeline:
        name = type_name(transform)
        if name in FRAME_SAMPLERS:
            length = transform.get('clip_len', 1)
            # A 2-D recognizer samples single frames, one per "clip".
            frames = length if length != 1 else transform.get('num_clips', 1)
        elif name == 'UniformSample':
            frames = transform.get('clip_len')
            if frames == 1:
                frames = transform.get('num_clips', 1)
        elif name in CROPS:
            size = pair(transform.get('crop_size', transform.get('size')))
            size = size and size[::-1]  # (width, height) in MMAction2
        elif name == 'Resize':
            scale = pair(transform.get('scale'))
            fixed = transform.get('keep_ratio', True) is False
            size = scale[::-1] if fixed and scale else None
        elif name in RANDOM_SIZES:
            size = None
    return ClipShape(frames if isinstance(frames, int) else None, size)


def type_name(transform: Any) -> str:
    """Returns the name of a transform's class, without its scope."""
    if not hasattr(transform, 'get'):
        return ''
    name = transform.get('type', '')
    if not isinstance(name, str):
        name = getattr(name, '__name__', '')
    return name.split('.')[-1]


def pair(size: Any) -> Optional[Tuple[int, int]]:
    """Returns a size as two integers, None if it is no size."""
    if isinstance(size, int) and not isinstance(size, bool):
        return size, size
    if (
        isinstance(size, (tuple, list))
        and len(size) == 2
        and all(isinstance(s, int) and s > 0 for s in size)
    ):
        return tuple(size)
    return None


def size_text(size: Tuple[int, int]) -> str:
    """Returns ``224`` for a square, ``180x320`` (height first) otherwise."""
    height, width = size
    return f'{height} px' if height == width else f'{height}x{width} px'
