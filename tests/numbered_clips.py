"""Clips whose frames tell their number by their grey, in any encoding."""

from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip('av')

DARKEST, STEP = 20, 3
# No key frame but those asked for: a brightening scene looks like many cuts.
MPEG4 = dict(g='12', qmin='2', qmax='3', sc_threshold='1000000000')
H264 = {'g': '12', 'crf': '10', 'x264-params': 'scenecut=0'}
OPEN_GOP = {**H264, 'x264-params': 'scenecut=0:open-gop=1'}

# Encodings in which decord seeks wrongly, and those in which it seeks right:
# name -> codec, options. docs/decoding.md lists them.
WRONG = {
    'mpeg4_b_frames.avi': ('mpeg4', {**MPEG4, 'bf': '2'}),
    'mpeg4_b_frames.mp4': ('mpeg4', {**MPEG4, 'bf': '2'}),
    'mpeg4_b_frames.mkv': ('mpeg4', {**MPEG4, 'bf': '2'}),
    'mpeg2_b_frames.mpg': ('mpeg2video', {**MPEG4, 'bf': '2'}),
    'h264_b_frames.avi': ('libx264', H264),
    'h264_no_b_frames.avi': ('libx264', {**H264, 'bf': '0'}),
    'h264_open_gop.mp4': ('libx264', OPEN_GOP),
}
RIGHT = {
    'mpeg4_no_b_frames.avi': ('mpeg4', {**MPEG4, 'bf': '0'}),
    'mjpeg.avi': ('mjpeg', dict(qmin='2', qmax='3')),
    'h264_b_frames.mp4': ('libx264', H264),
    'h264_b_frames.mkv': ('libx264', H264),
    'h264_no_b_frames.mp4': ('libx264', {**H264, 'bf': '0'}),
}
# Some that decord reads right, some that it reads wrongly.
AWKWARD = {
    'odd_size.avi': ('mpeg4', dict(MPEG4, bf='2'), dict(size=(95, 63))),
    'portrait.mp4': ('libx264', H264, dict(size=(64, 96))),
    'grey.mp4': ('libx264', H264, dict(pix_fmt='gray')),
    'ten_bits.mp4': ('libx264', H264, dict(pix_fmt='yuv420p10le')),
    'one_frame.avi': ('mpeg4', MPEG4, dict(count=1)),
    'uneven.mkv': ('libx264', H264, dict(uneven=True)),
    'ntsc.avi': (
        'mpeg4',
        dict(MPEG4, bf='2'),
        dict(rate=Fraction(30000, 1001)),
    ),
    'turned.mp4': ('libx264', H264, dict(rotation=-90)),
}


def write_clip(
    path,
    codec='libx264',
    options=H264,
    count=60,
    size=(96, 64),
    rate=25,
    pix_fmt='yuv420p',
    uneven=False,
    rotation=0,
):
    """Writes a clip of ``count`` frames, each 3 levels brighter.

    The left half is darker by 6 levels, which shows how a frame is turned.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    rng = np.random.default_rng(0)
    noise = rng.integers(-3, 4, (height, width, 3))
    noise[:, : width // 2] -= 6
    if codec == 'mjpeg':
        pix_fmt = 'yuvj420p'
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        if rotation:
            stream.set_display_rotation(rotation)
        container.start_encoding()  # a file even if there is no frame
        for number in range(count):
            image = DARKEST + STEP * number + np.roll(noise, number, axis=0)
            frame = av.VideoFrame.from_ndarray(
                image.clip(0, 255).astype(np.uint8), format='rgb24'
            )
            if uneven:
                frame.pts = number + number // 4
                frame.time_base = 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def number_of(image):
    """Reads the number of a frame from its grey value; -1 if it is unclear."""
    number = (image.mean() + 3 - DARKEST) / STEP
    return int(round(number)) if abs(number - round(number)) < 0.4 else -1


def in_order(path):
    """All frames by PyAV, another decoder, in order and upright."""
    with av.open(str(path)) as container:
        return [
            np.rot90(frame.to_ndarray(format='rgb24'), frame.rotation // 90)
            for frame in container.decode(video=0)
        ]


def numbers_of(images):
    """Returns the numbers of all frames."""
    return [number_of(image) for image in images]
