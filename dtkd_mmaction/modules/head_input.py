"""Converts the input of stock heads to one map and back."""

from typing import Any, List, Optional, Tuple

import torch
from einops import rearrange
from torch import Tensor

from ..modules.grid import align_grids, resize_grid

# One map; MViT's [patches, class token]; SlowFast's slow and fast maps; a
# vector; the folded frames of a 2-D recognizer.
FORMS = ('map', 'class_token', 'pathways', 'vector', 'frames')


def head_input_form(head_input: Any) -> Tuple[str, List[int]]:
    """Returns the form of a head input and the channels of its parts.

    Raises:
        ValueError: For any other form.
    """
    if isinstance(head_input, Tensor):
        forms = {2: 'vector', 4: 'frames', 5: 'map'}
        if head_input.ndim in forms:
            return forms[head_input.ndim], [head_input.shape[1]]
    elif isinstance(head_input[-1], (list, tuple)):
        if head_input[-1][-1] is not None:
            return 'class_token', [head_input[-1][-1].shape[1]]
    elif all(isinstance(x, Tensor) and x.ndim == 5 for x in head_input):
        return 'pathways', [x.shape[1] for x in head_input]
    raise ValueError(
        f'a head input of {type(head_input).__name__} is none of {FORMS}.'
    )


def head_input_to_map(
    head_input: Any, num_segs: Optional[int] = None
) -> Tensor:
    """Converts a head input to one map (B, C, T, H, W).

    Args:
        head_input: In one of :data:`FORMS`. A vector and a class token
            become a map of one position; paths lie side by side on their
            smallest grid.
        num_segs (int, optional): Frames of a sample, for ``'frames'``.
    """
    form, _ = head_input_form(head_input)
    if form == 'map':
        return head_input
    if form == 'frames':
        return rearrange(head_input, '(b t) c h w -> b c t h w', t=num_segs)
    if form == 'pathways':
        return torch.cat(align_grids(head_input), dim=1)
    vector = head_input if form == 'vector' else head_input[-1][-1]
    return vector[:, :, None, None, None]


def map_to_head_input(
    feature_map: Tensor,
    form: str,
    widths: List[int],
    frames: Optional[int] = None,
) -> Any:
    """Converts a map to the form that a stock head reads.

    Args:
        feature_map (Tensor): (B, sum of widths, T, H, W).
        form (str): One of :data:`FORMS`; for ``'class_token'`` and
            ``'vector'`` the map is averaged over its positions.
        widths (list[int]): Channels of the parts.
        frames (int, optional): Frames that a 2-D head insists on.
    """
    if form == 'map':
        return feature_map
    if form == 'pathways':
        return tuple(feature_map.split(widths, dim=1))
    if form == 'frames':
        if frames is not None:
            feature_map = resize_grid(
                feature_map, (frames, *feature_map.shape[3:])
            )
        return rearrange(feature_map, 'b c t h w -> (b t) c h w')
    pooled = feature_map.mean(dim=(2, 3, 4))
    return pooled if form == 'vector' else [[None, pooled]]
