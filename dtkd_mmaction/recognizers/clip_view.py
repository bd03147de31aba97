"""View of a model: frames and size of the shared clip."""

from typing import Optional, Tuple, Union

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


class ClipView:
    """A model's own view of the clip that all models share.

    Frames are evenly spaced, starting with the first, and every frame is
    resized as a whole. So all models see the same moments and the same crop.

    Args:
        frames (int, optional): Frames of the view. Defaults to all.
        size (int or tuple[int, int], optional): Height and width of the
            view, in pixels. Defaults to the clip's.
        fold_frames (bool): Whether the model is a 2-D recognizer, which
            takes its frames as (B, T, 3, H, W). Defaults to False.
        key (str): Config key of the model, for messages.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.distillers import ClipView
        >>> clips = torch.zeros(2, 1, 3, 16, 224, 224)
        >>> ClipView(frames=8, size=160)(clips).shape
        torch.Size([2, 1, 3, 8, 160, 160])
    """

    def __init__(
        self,
        frames: Optional[int] = None,
        size: Union[int, Tuple[int, int], None] = None,
        fold_frames: bool = False,
        key: str = 'model',
    ) -> None:
        for name, value in (('frames', frames), ('size', size)):
            values = value if isinstance(value, (tuple, list)) else [value]
            if any(
                v is not None and (not isinstance(v, int) or v < 1)
                for v in values
            ):
                raise ValueError(
                    f'{key}.view.{name}={value!r}: a positive '
                    'integer is needed.'
                )
        self.frames = frames
        self.size = (size, size) if isinstance(size, int) else size
        self.fold_frames = fold_frames
        self.key = key

    def __call__(self, clips: Tensor) -> Tensor:
        """Cuts the view out of a batch of clips.

        Args:
            clips (Tensor): (B, 1, 3, T, H, W), uint8 or float.

        Returns:
            Tensor: (B, 1, 3, t, h, w), or (B, t, 3, h, w) for a 2-D
                recognizer; float where it was resized.

        Raises:
            ValueError: If the view has more frames than the clip.
        """
        batch, _, _, frames, height, width = clips.shape
        wanted = self.frames or frames
        if wanted > frames:
            raise ValueError(
                f'{self.key}.view.frames={wanted}, but the clips of '
                f'train_pipeline have {frames} frames. Sample more '
                f'(SampleFrames.clip_len) or set a view of at most {frames}.'
            )
        if wanted < frames:
            picked = [i * frames // wanted for i in range(wanted)]
            clips = clips[:, :, :, picked]
        if self.size is not None and tuple(self.size) != (height, width):
            # As cv2's bilinear resize in the stock test pipelines, which
            # does not smooth before it shrinks either.
            images = F.interpolate(
                clips.flatten(1, 3).float(),  # (B, 3 t, H, W)
                size=tuple(self.size),
                mode='bilinear',
                align_corners=False,
            )
            clips = images.unflatten(1, (1, 3, wanted))
        if self.fold_frames:
            return clips.transpose(2, 3).flatten(1, 2)
        return clips


def model_inputs(
    recognizer: nn.Module,
    view: ClipView,
    clips: Tensor,
    data_samples: Optional[list] = None,
) -> Tensor:
    """Cuts a model's view out of the shared clips and normalises it.

    Args:
        recognizer (nn.Module): Stock model; its data preprocessor normalises
            the clips.
        view (ClipView): Its view.
        clips (Tensor): (B, 1, 3, T, H, W), raw.
        data_samples (list, optional): Passed on to the preprocessor.

    Returns:
        Tensor: (B, 1, 3, t, h, w), or (B, t, 3, h, w) for a 2-D recognizer.
    """
    data = dict(inputs=list(view(clips)), data_samples=data_samples)
    return recognizer.data_preprocessor(data, training=False)['inputs']
