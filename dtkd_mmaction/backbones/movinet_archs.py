"""Six searched architectures A0 to A5 of MoViNet (arXiv 2103.11511)."""

from typing import Dict, NamedTuple, Tuple


class StageArch(NamedTuple):
    """One stage: a list of bottleneck layers that share their width.

    Attributes:
        base (int): Channels of the stage's maps.
        stride (int): Spatial stride of the first layer; in time it is always
            1.
        expanded (tuple[int]): Channels inside each layer.
        kernels (tuple[tuple[int]]): (frames, pixels) of each layer's
            depthwise kernel.
    """

    base: int
    stride: int
    expanded: Tuple[int, ...]
    kernels: Tuple[Tuple[int, int], ...]


class Arch(NamedTuple):
    """One network: channels of stem and last map, and the stages between."""

    stem: int
    projection: int
    stages: Tuple[StageArch, ...]


def stage(base: int, stride: int, expanded: str, kernels: str) -> StageArch:
    """Builds a stage from its row in the tables below.

    Args:
        base (int): See :class:`StageArch`.
        stride (int): See :class:`StageArch`.
        expanded (str): One number per layer.
        kernels (str): Two digits per layer, frames and pixels: ``'53'`` is 5 x
            3 x 3.
    """
    return StageArch(
        base,
        stride,
        tuple(int(width) for width in expanded.split()),
        tuple((int(pair[0]), int(pair[1])) for pair in kernels.split()),
    )


# Every layer of a stage but the first has stride 1.
ARCHS: Dict[str, Arch] = {
    'a0': Arch(
        8,
        480,
        (
            stage(8, 2, '24', '15'),
            stage(32, 2, '80 80 80', '33 33 33'),
            stage(56, 2, '184 112 184', '53 33 33'),
            stage(56, 1, '184 184 184 184', '53 33 33 33'),
            stage(104, 2, '384 280 280 344', '53 15 15 15'),
        ),
    ),
    'a1': Arch(
        16,
        600,
        (
            stage(16, 2, '40 40', '15 33'),
            stage(40, 2, '96 120 96 96', '33 33 33 33'),
            stage(64, 2, '216 128 216 168 216', '53 33 33 33 33'),
            stage(64, 1, '216 216 216 128 128 216', '53 33 33 33 15 33'),
            stage(
                136, 2, '456 360 360 360 456 456 544', '53 15 15 15 15 33 13'
            ),
        ),
    ),
    'a2': Arch(
        16,
        640,
        (
            stage(16, 2, '40 40 64', '15 33 33'),
            stage(40, 2, '96 120 96 96 120', '33 33 33 33 33'),
            stage(72, 2, '240 160 240 192 240', '53 33 33 33 33'),
            stage(72, 1, '240 240 240 240 144 240', '53 33 33 33 15 33'),
            stage(
                144, 2, '480 384 384 480 480 480 576', '53 15 15 15 15 33 13'
            ),
        ),
    ),
    'a3': Arch(
        16,
        744,
        (
            stage(16, 2, '40 40 64 40', '15 33 33 33'),
            stage(48, 2, '112 144 112 112 144 144', '33 33 33 15 33 33'),
            stage(80, 2, '240 152 240 192 240', '53 33 33 33 33'),
            stage(
                88,
                1,
                '264 264 264 264 160 264 264 264',
                '53 33 33 33 15 33 33 33',
            ),
            stage(
                168,
                2,
                '560 448 448 560 560 560 448 448 560 672',
                '53 15 15 15 15 33 15 15 33 13',
            ),
        ),
    ),
    'a4': Arch(
        24,
        856,
        (
            stage(24, 2, '64 64 96 64 96 64', '15 33 33 33 33 33'),
            stage(
                56,
                2,
                '168 168 136 136 168 168 168 136 136',
                '33 33 33 33 33 33 33 15 33',
            ),
            stage(
                96,
                2,
                '320 160 320 192 320 160 320 256 320',
                '53 33 33 33 33 33 33 33 33',
            ),
            stage(
                96,
                1,
                '320 320 320 320 192 320 320 192 320 320',
                '53 33 33 33 15 33 33 33 33 33',
            ),
            stage(
                192,
                2,
                '640 512 512 640 640 640 512 512 640 768 640 640 768',
                '53 15 15 15 15 33 15 15 15 15 15 33 33',
            ),
        ),
    ),
    'a5': Arch(
        24,
        992,
        (
            stage(24, 2, '64 64 96 64 96 64', '15 15 33 33 33 33'),
            stage(
                64,
                2,
                '192 152 152 152 192 192 192 152 152 192 192',
                '53 33 33 33 33 33 33 33 33 33 33',
            ),
            stage(
                112,
                2,
                '376 224 376 376 296 376 224 376 376 296 376 376 376',
                '53 33 33 33 33 33 33 33 33 33 33 33 33',
            ),
            stage(
                120,
                1,
                '376 376 376 376 224 376 376 224 376 376 376',
                '53 33 33 33 15 33 33 33 33 33 33',
            ),
            stage(
                224,
                2,
                '744 744 600 600 744 744 744 896 600 600 896 744 744 896 '
                '600 600 744 744',
                '53 33 15 15 15 15 33 15 15 15 15 15 33 15 15 15 15 33',
            ),
        ),
    ),
}
