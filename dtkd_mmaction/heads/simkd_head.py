"""SimKD's head: a projector and the teacher's own classifier, reused."""

from typing import Any, List, Optional

import torch.nn as nn
from mmaction.models.heads.base import BaseHead
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from torch import Tensor

from ..modules.head_input import head_input_to_map, map_to_head_input


class SimKDProjector(nn.Sequential):
    """1x1x1, 3x3x3 and 1x1x1 convolutions, a bottleneck of half the width.

    Args:
        in_channels (int): Channels of the student.
        out_channels (int): Channels of the teacher.
        signed (bool): Whether the teacher's features can be negative, as
            behind a LayerNorm: BatchNorm and ReLU at the end are left out.
    """

    def __init__(
        self, in_channels: int, out_channels: int, signed: bool
    ) -> None:
        width = out_channels // 2

        def block(channels_in, channels_out, kernel):
            return [
                nn.Conv3d(
                    channels_in,
                    channels_out,
                    kernel,
                    padding=kernel // 2,
                    bias=False,
                ),
                nn.BatchNorm3d(channels_out),
                nn.ReLU(),
            ]

        layers = block(in_channels, width, 1) + block(width, width, 3)
        if signed:
            layers.append(nn.Conv3d(width, out_channels, 1))
        else:
            layers += block(width, out_channels, 1)
        super().__init__(*layers)


@MODELS.register_module()
class SimKDHead(BaseHead):
    """Projects the student's features for the teacher's classifier.

    Stays at inference, so the student costs more than the stock one.
    Configured by :class:`~dtkd_mmaction.distillers.SimKDDistiller`.

    Args:
        num_classes (int): K.
        in_channels (int): Channels of the student's head input.
        teacher_head (dict): The teacher's stock head; frozen.
        form (str): Form of the teacher's head input
            (:mod:`~dtkd_mmaction.modules.head_input`).
        widths (list[int]): Channels of its parts.
        signed (bool): Whether they can be negative.
        loss_cls (dict, optional): Defaults to cross entropy; not used by
            SimKD's training.
        kwargs (dict): Arguments of :class:`BaseHead`.

    Example:
        >>> import torch
        >>> from mmaction.registry import MODELS
        >>> head = MODELS.build(
        ...     dict(
        ...         type='SimKDHead',
        ...         num_classes=4,
        ...         in_channels=8,
        ...         teacher_head=dict(
        ...             type='I3DHead', in_channels=16, num_classes=4
        ...         ),
        ...         form='map',
        ...         widths=[16],
        ...         signed=False,
        ...     )
        ... )
        >>> head(torch.randn(2, 8, 4, 7, 7)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        teacher_head: dict,
        form: str,
        widths: List[int],
        signed: bool,
        loss_cls: Optional[dict] = None,
        **kwargs,
    ) -> None:
        loss_cls = loss_cls or dict(type='CrossEntropyLoss')
        super().__init__(num_classes, in_channels, loss_cls, **kwargs)
        self.form = form
        self.widths = list(widths)
        self.projector = SimKDProjector(in_channels, sum(widths), signed)
        self.classifier = MODELS.build(teacher_head)
        self.classifier.requires_grad_(False)
        self.classifier.eval()
        self.classifier.average_clips = self.average_clips
        if hasattr(self.classifier, 'class_counts'):  # verbs and nouns
            self.class_counts = self.classifier.class_counts

    def train(self, mode: bool = True) -> 'SimKDHead':
        """Sets the mode; the teacher's classifier stays in eval mode."""
        super().train(mode)
        self.classifier.eval()
        return self

    def predict_by_feat(
        self, cls_scores: Tensor, data_samples: List[ActionDataSample]
    ) -> List[ActionDataSample]:
        """Returns class probabilities as the teacher's head computes them.

        Args:
            cls_scores (Tensor): Logits, (B * clips, K).
            data_samples (list): B samples.
        """
        return self.classifier.predict_by_feat(cls_scores, data_samples)

    def project(
        self, features: Any, num_segs: Optional[int] = None, **kwargs
    ) -> Tensor:
        """Projects the head input into the teacher's space, (B, C_t, T, H, W).

        Args:
            features: Input of the student's stock head.
            num_segs (int, optional): Frames of a sample, of a 2-D student.
        """
        return self.projector(head_input_to_map(features, num_segs))

    def forward(
        self, x: Any, num_segs: Optional[int] = None, **kwargs
    ) -> Tensor:
        """Maps the student's head input to logits (B, K)."""
        projected = self.project(x, num_segs)
        frames = getattr(self.classifier, 'num_segments', None)
        return self.classifier(
            map_to_head_input(projected, self.form, self.widths, frames),
            num_segs=frames or projected.shape[2],
        )
