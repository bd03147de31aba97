"""Prepares the batch of raw clips that all models of a distiller share."""

from typing import Callable, List, Optional, Union

import torch
from mmaction.registry import MODELS
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from ..recognizers.data_samples import labelled_rows, mark_unlabelled


@MODELS.register_module()
class SharedClipPreprocessor(BaseDataPreprocessor):
    """Stacks raw clips, moves them to the device and blends them.

    It does not normalise: every model normalises its own view with its own
    statistics.

    Args:
        blending (dict or callable, optional): Mixup/CutMix of MMAction2,
            applied to the raw clips of a training batch. Defaults to None.

    Example:
        >>> import torch
        >>> from mmaction.structures import ActionDataSample
        >>> from dtkd_mmaction.distillers import SharedClipPreprocessor
        >>> clips = [torch.zeros(16, 3, 32, 32, dtype=torch.uint8)] * 2
        >>> samples = [ActionDataSample().set_gt_label(i) for i in range(2)]
        >>> batch = SharedClipPreprocessor()(
        ...     dict(inputs=clips, data_samples=samples)
        ... )
        >>> batch['inputs'].shape, batch['inputs'].dtype
        (torch.Size([2, 1, 3, 16, 32, 32]), torch.uint8)
    """

    def __init__(
        self, blending: Optional[Union[dict, Callable]] = None
    ) -> None:
        super().__init__()
        self.blending: Optional[Callable] = (
            MODELS.build(blending) if isinstance(blending, dict) else blending
        )

    def forward(self, data: dict, training: bool = False) -> dict:
        """Makes one batch from the output of the data loader.

        Args:
            data (dict): ``inputs``: B clips (1, 3, T, H, W) of a 3-D
                pipeline or (T, 3, H, W) of a 2-D one, uint8, as a list or
                stacked; ``data_samples``: B samples.
            training (bool): Whether to blend.

        Returns:
            dict: ``inputs`` (B, 1, 3, T, H, W) and ``data_samples``.
        """
        mark_unlabelled(data['data_samples'])
        data = self.cast_data(data)
        clips = stack_clips(data['inputs'])
        data_samples = data['data_samples']
        if training and self.blending is not None:
            if labelled_rows(data_samples) is not None:
                raise ValueError(
                    'model.student: its data_preprocessor.blending '
                    f'({type(self.blending).__name__}) mixes labels, but the '
                    'training list holds unlabelled clips (label -1). Set '
                    "model.student.cfg_options={'data_preprocessor.blending': "
                    'None} or remove them from the list.'
                )
            clips, data_samples = self.blending(clips.float(), data_samples)
        return dict(inputs=clips, data_samples=data_samples)


def stack_clips(inputs: Union[Tensor, List[Tensor]]) -> Tensor:
    """Stacks clips of a 3-D or a 2-D pipeline to (B, 1, 3, T, H, W).

    Raises:
        ValueError: If their sizes differ or they are not clips.
    """
    shapes = sorted({tuple(clip.shape) for clip in inputs})
    if len(shapes) > 1:
        raise ValueError(
            f'The clips of a batch have the shapes {shapes}. Let '
            'train_pipeline end in one size (a crop or Resize with '
            'keep_ratio=False).'
        )
    clips = inputs if isinstance(inputs, Tensor) else torch.stack(inputs)
    if clips.ndim == 5 and clips.shape[2] == 3:  # (B, T, 3, H, W)
        clips = clips.transpose(1, 2).unsqueeze(1)
    if clips.ndim != 6 or clips.shape[1:3] != (1, 3):
        raise ValueError(
            'train_pipeline must give clips of (1, 3, T, H, W) '
            "(FormatShape 'NCTHW', num_clips=1) or (T, 3, H, W) "
            f"(FormatShape 'NCHW'), found {shapes[0]}."
        )
    return clips
