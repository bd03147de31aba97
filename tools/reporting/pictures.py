"""Small pictures as data URIs, so that the page is one file."""

import base64
import io
from typing import List

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

SIDE = 112  # longest side of a looping picture, in pixels
FRAMES = 10
MILLISECONDS = 120


def data_uri(content: bytes, kind: str) -> str:
    """Returns a file as the value of ``src``."""
    return f'data:{kind};base64,{base64.b64encode(content).decode()}'


def frames_of(clip: np.ndarray) -> List[Image.Image]:
    """Picks frames of a clip and makes them small.

    Args:
        clip (np.ndarray): (T, H, W, 3), uint8.

    Returns:
        list[Image]: At most :data:`FRAMES`, evenly spaced.
    """
    count = min(FRAMES, len(clip))
    picked = (np.arange(count) * len(clip)) // count
    images = [Image.fromarray(clip[i]) for i in picked]
    for image in images:
        image.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    return images


def looping_picture(clip: np.ndarray) -> str:
    """Returns a clip as an animated WebP picture that plays for ever.

    Args:
        clip (np.ndarray): (T, H, W, 3), uint8.
    """
    first, *others = frames_of(clip)
    file = io.BytesIO()
    first.save(
        file,
        'WEBP',
        save_all=True,
        append_images=others,
        duration=MILLISECONDS,
        loop=0,
        quality=50,
    )
    return data_uri(file.getvalue(), 'image/webp')


def still_picture(clip: np.ndarray) -> str:
    """Returns the middle frame, for readers who want nothing to move."""
    images = frames_of(clip)
    file = io.BytesIO()
    images[len(images) // 2].save(file, 'WEBP', quality=50)
    return data_uri(file.getvalue(), 'image/webp')


def figure_picture(figure: Figure, dpi: int = 80) -> str:
    """Returns a matplotlib figure as a WebP picture."""
    drawn, file = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format='png', dpi=dpi)
    Image.open(drawn).convert('RGB').save(file, 'WEBP', quality=70)
    return data_uri(file.getvalue(), 'image/webp')


def frames_last(inputs: np.ndarray) -> np.ndarray:
    """Turns the inputs of a recognizer into one clip of frames.

    Args:
        inputs (np.ndarray): (num_clips, 3, T, H, W), or (T, 3, H, W) of a
            2-D recognizer; 0 to 255.

    Returns:
        np.ndarray: (T, H, W, 3), uint8; the middle one of several clips.
    """
    if inputs.ndim == 5:
        inputs = inputs[len(inputs) // 2].transpose(1, 0, 2, 3)
    return np.ascontiguousarray(inputs.transpose(0, 2, 3, 1), np.uint8)
