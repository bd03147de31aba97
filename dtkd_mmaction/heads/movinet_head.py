"""Classification head of MoViNet."""

from typing import Optional, Tuple

import torch.nn as nn
from mmaction.models.heads.base import BaseHead
from mmaction.registry import MODELS
from torch import Tensor

from ..backbones.movinet_layers import LayerState, he_normal_, running_mean


@MODELS.register_module()
class MoViNetHead(BaseHead):
    """Head of MoViNet: mean over the clip, linear, swish, dropout, linear.

    The official recipe trains with ``label_smooth_eps=0.1``.

    Args:
        num_classes (int): K.
        in_channels (int): C, the backbone's ``out_channels``: 480, 600, 640,
            744, 856 and 992 for A0 to A5.
        loss_cls (dict): Defaults to cross entropy.
        hidden_channels (int): Channels between the two layers. Defaults to
            2048.
        dropout_ratio (float): Defaults to the official 0.5; A0 has 0.2.
        kwargs (dict): Arguments of :class:`BaseHead`.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.heads import MoViNetHead
        >>> head = MoViNetHead(num_classes=6, in_channels=480)
        >>> head(torch.randn(2, 480, 4, 2, 2)).shape
        torch.Size([2, 6])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        loss_cls: Optional[dict] = None,
        hidden_channels: int = 2048,
        dropout_ratio: float = 0.5,
        **kwargs,
    ) -> None:
        loss_cls = loss_cls or dict(type='CrossEntropyLoss')
        super().__init__(num_classes, in_channels, loss_cls, **kwargs)
        self.fc1 = nn.Linear(in_channels, hidden_channels)
        self.act = nn.SiLU()
        self.dropout = nn.Dropout(dropout_ratio)
        self.fc2 = nn.Linear(hidden_channels, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Applies the official initialisation."""
        he_normal_(self.fc1.weight)
        nn.init.normal_(self.fc2.weight, std=0.01)
        nn.init.zeros_(self.fc1.bias)
        nn.init.zeros_(self.fc2.bias)

    def init_weights(self) -> None:
        """Applies the official initialisation, then ``init_cfg``."""
        self.reset_parameters()
        super().init_weights()

    def forward(self, x: Tensor, **kwargs) -> Tensor:
        """Maps (B, C, T, H, W) to logits (B, K)."""
        return self._classify(x.mean(dim=(2, 3, 4)))

    def stream(
        self, x: Tensor, state: Optional[LayerState] = None
    ) -> Tuple[Tensor, LayerState]:
        """Returns the logits of the videos so far.

        Args:
            x (Tensor): The map of the next piece, (B, C, T, H, W).
            state (dict, optional): State returned for the piece before;
                ``None`` begins new videos. It is not changed.

        Returns:
            tuple[Tensor, dict]: (B, K) and the state for the next piece. After
                the last piece, the logits equal those of :meth:`forward` for
                the whole videos.
        """
        state = dict(state or {})
        means = running_mean(x.mean(dim=(3, 4)), state)
        return self._classify(means[:, :, -1]), state

    def _classify(self, pooled: Tensor) -> Tensor:
        """Maps (B, C) to logits (B, K)."""
        return self.fc2(self.dropout(self.act(self.fc1(pooled))))
