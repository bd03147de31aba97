"""A stock recognizer as one function from clips to scores."""

import copy
from typing import List, Tuple

import torch
import torch.nn as nn
from mmaction.models.data_preprocessors import ActionDataPreprocessor
from mmaction.models.recognizers import Recognizer2D, Recognizer3D
from torch import Tensor

from ..recognizers.class_parts import class_parts

ClipShape = Tuple[int, int, int, int]


class ClipClassifier(nn.Module):
    """Computes the scores of clips as the recognizer's ``predict`` does.

    One row of the input is one view of a clip: a clip and a crop of a 3-D
    recognizer, the frames of one vote of a 2-D recognizer. The average over
    several views of a video is the caller's, see :func:`average_views`.

    Args:
        recognizer (nn.Module): ``Recognizer2D`` or ``Recognizer3D``. It is
            copied, so the copy can be moved and converted.
        normalise (bool): Whether the input is ``uint8`` RGB frames
            (B, T, H, W, 3), which the model normalises itself. Otherwise it
            is normalised clips, (B, 3, T, H, W) of a 3-D and (B, T, 3, H, W)
            of a 2-D recognizer. Defaults to False.
        softmax (bool): Whether to return probabilities instead of logits.
            Defaults to False.

    Attributes:
        folds_frames (bool): Whether the recognizer is a 2-D one.

    Raises:
        TypeError: If the recognizer or its data preprocessor is of another
            class.
    """

    def __init__(
        self,
        recognizer: nn.Module,
        normalise: bool = False,
        softmax: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(recognizer, (Recognizer2D, Recognizer3D)):
            raise TypeError(
                f'model.type={type(recognizer).__name__}: expected a '
                'Recognizer2D or a Recognizer3D, which have clips as input '
                'and class scores as output.'
            )
        self.folds_frames = isinstance(recognizer, Recognizer2D)
        self.normalise = normalise
        self.softmax = softmax
        self.recognizer = copy.deepcopy(recognizer).eval()
        # It limits memory, changes no score, and asks for one video a batch.
        self.recognizer.test_cfg = {
            key: value
            for key, value in (recognizer.test_cfg or {}).items()
            if key != 'max_testing_views'
        } or None
        self.class_counts = class_counts(recognizer.cls_head)
        if normalise:
            self.to_rgb, mean, std = normalisation(recognizer)
            self.register_buffer('mean', torch.tensor(mean), False)
            self.register_buffer('std', torch.tensor(std), False)

    def forward(self, clips: Tensor) -> Tensor:
        """Maps clips (B, ...) to scores (B, N)."""
        clips = self.normalised(clips)
        if not self.folds_frames:
            clips = clips.unsqueeze(1)  # (B, 1, 3, T, H, W)
        feats, kwargs = self.recognizer.extract_feat(clips, test_mode=True)
        return self.scores(self.recognizer.cls_head(feats, **kwargs))

    def scores(self, logits: Tensor) -> Tensor:
        """Returns logits (B, N), with ``softmax`` their probabilities."""
        if not self.softmax:
            return logits
        parts = logits.split(self.class_counts, dim=1)
        return torch.cat([part.softmax(dim=1) for part in parts], dim=1)

    def normalised(self, clips: Tensor) -> Tensor:
        """Returns clips in the recognizer's own layout, normalised.

        Args:
            clips (Tensor): With ``normalise`` ``uint8`` (B, T, H, W, 3),
                else what is returned.
        """
        if not self.normalise:
            return clips
        frames = clips.float()
        if self.to_rgb:
            frames = frames.flip(-1)
        frames = (frames - self.mean) / self.std
        if self.folds_frames:
            return frames.permute(0, 1, 4, 2, 3)
        return frames.permute(0, 4, 1, 2, 3)


def class_counts(head: nn.Module) -> List[int]:
    """Returns the classes per question: one number, or verbs and nouns."""
    return [part.count for part in class_parts(head, head.num_classes)]


def normalisation(
    recognizer: nn.Module,
) -> Tuple[bool, List[float], List[float]]:
    """Returns how a recognizer normalises decoded RGB frames.

    Returns:
        tuple[bool, list[float], list[float]]: Whether it reverses the
            channels, and the mean and the standard deviation per channel of
            the result.

    Raises:
        TypeError: If its data preprocessor is no ``ActionDataPreprocessor``.
    """
    preprocessor = recognizer.data_preprocessor
    if not isinstance(preprocessor, ActionDataPreprocessor):
        raise TypeError(
            'model.data_preprocessor is a '
            f'{type(preprocessor).__name__}, expected an '
            'ActionDataPreprocessor, whose mean and std are known.'
        )
    if not preprocessor._enable_normalize:
        return preprocessor.to_rgb, [0.0] * 3, [1.0] * 3
    return (
        preprocessor.to_rgb,
        preprocessor.mean.flatten().tolist(),
        preprocessor.std.flatten().tolist(),
    )


def clip_rows(inputs: Tensor, frames: int) -> Tensor:
    """Arranges what a stock pipeline gives for one video as rows.

    Args:
        inputs (Tensor): (V, 3, T, H, W) of a 3-D or (M, 3, H, W) of a 2-D
            recognizer.
        frames (int): Frames per row of a 2-D recognizer.

    Returns:
        Tensor: (V, 3, T, H, W) or (M / frames, frames, 3, H, W).
    """
    if inputs.ndim == 5:
        return inputs
    return inputs.unflatten(0, (-1, frames))


def as_frames(rows: Tensor, folds_frames: bool) -> Tensor:
    """Arranges rows as the ``uint8`` frames of ``normalise=True``.

    Args:
        rows (Tensor): (V, 3, T, H, W) or (V, T, 3, H, W), not normalised.
        folds_frames (bool): Whether they are those of a 2-D recognizer.

    Returns:
        Tensor: (V, T, H, W, 3), contiguous.
    """
    return rows.movedim(2 if folds_frames else 1, -1).contiguous()


@torch.no_grad()
def clip_shape_of(recognizer: nn.Module, inputs: Tensor) -> ClipShape:
    """Finds the shape of one row for what a stock pipeline gives.

    A 2-D recognizer votes once per video (TSN) or once per group of frames
    (TSM): one forward pass tells which.

    Args:
        recognizer (nn.Module): A stock recognizer in eval mode.
        inputs (Tensor): (V, 3, T, H, W) or (M, 3, H, W), uint8.

    Returns:
        tuple[int, int, int, int]: (3, T, H, W) or (T, 3, H, W).
    """
    if inputs.ndim == 5:
        return tuple(inputs.shape[1:])
    clips = torch.zeros(1, *inputs.shape)
    feats, kwargs = recognizer.extract_feat(clips, test_mode=True)
    votes = len(recognizer.cls_head(feats, **kwargs))
    return (len(inputs) // votes, *inputs.shape[1:])
