"""One for all, OFA-KD (Hao, Guo, Han, Tang, Hu, Wang, Xu, NeurIPS 2023).

Features of different architectures are not comparable, but their logits are.
Every stage of the student gets a small classifier that learns the teacher's
logits, with more weight on the correct class.
"""

from typing import List, Sequence, Tuple

import torch.nn as nn
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor

from .numerics import at_least_float32
from .options import check_ranges


def ofa_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    epsilon: float,
    tau: float,
) -> Tensor:
    """Computes cross-entropy to the teacher, with more weight on the label.

    A class k has the weight ``p_k ** epsilon``, the labelled one
    ``(1 + p_k) ** epsilon - 1``, for the teacher's probability p_k. There is
    no factor ``tau ** 2``, as in the official code. ``epsilon=1`` is
    KL(teacher || student) plus the teacher's entropy.

    Args:
        student_logits (Tensor): (B, N).
        teacher_logits (Tensor): (B, N).
        labels (Tensor): Classes, (B,).
        epsilon (float): Values above 1 give the correct class more weight.
        tau (float): Temperature of both softmaxes.

    Returns:
        Tensor: Scalar, the mean over the batch.
    """
    student_logits = at_least_float32(student_logits)
    probs = F.softmax(at_least_float32(teacher_logits) / tau, dim=1)
    is_label = F.one_hot(labels, probs.shape[1]).to(probs)
    # The label loss has the hard label already: hence the subtraction.
    weights = (probs + is_label) ** epsilon - is_label
    student_log_probs = F.log_softmax(student_logits / tau, dim=1)
    return -(weights * student_log_probs).sum(dim=1).mean()


def separable_convolution(in_channels: int, out_channels: int) -> nn.Module:
    """Builds two depthwise separable convolutions that halve the size.

    Args:
        in_channels (int): Channels of the input and between the two.
        out_channels (int): Channels of the output.

    Returns:
        nn.Module: (B, C_in, T, H, W) to (B, C_out, T, ceil(H / 2),
            ceil(W / 2)).
    """
    layers: List[nn.Module] = []
    for stride, channels in (((1, 2, 2), in_channels), (1, out_channels)):
        layers += [
            nn.Conv3d(
                in_channels,
                in_channels,
                3,
                stride=stride,
                padding=1,
                groups=in_channels,
                bias=False,
            ),
            nn.Conv3d(in_channels, channels, 1, bias=False),
            nn.BatchNorm3d(channels),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


def stage_head(
    channels: int, width: int, depth: int, num_classes: int
) -> nn.Sequential:
    """Builds the classifier of one stage.

    Args:
        channels (int): Channels of the stage's map.
        width (int): Width of the vector that is classified.
        depth (int): Stages between this one and the deepest: the same number
            of separable convolutions; each one but the last doubles the
            channels.
        num_classes (int): Width of the logits.

    Returns:
        nn.Sequential: (B, C, T, H, W) to (B, N).
    """
    if depth == 0:
        layers: List[nn.Module] = [nn.Conv3d(channels, width, 1)]
    else:
        widths = [channels * 2**i for i in range(depth)] + [width]
        layers = [
            separable_convolution(*pair) for pair in zip(widths, widths[1:])
        ]
    head = nn.Sequential(
        *layers,
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(width, num_classes),
    )
    for layer in head.modules():
        if isinstance(layer, nn.Conv3d):
            nn.init.kaiming_normal_(
                layer.weight, mode='fan_out', nonlinearity='relu'
            )
        elif isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
    return head


@MODELS.register_module()
class OFALoss(nn.Module):
    """OFA-KD: the student and each of its stages follow the teacher's logits.

    The stages' classifiers are used in training only.

    Args:
        loss_weight (float): Weight of all terms together. Defaults to 1.0.
        student_shapes (list[tuple]): (C, T, H, W) of the student's stages,
            shallow to deep.
        teacher_width (int): Width of the teacher's embedding. The stages are
            classified from vectors of this width or that of the student's
            deepest stage, whichever is larger.
        num_classes (int): Width of the logits.
        stages (int): Number of stages, from the deepest, or all if there are
            fewer; shallow stages need much memory. Defaults to 3.
        stage_weight (float): Weight of the sum over the stages. The authors
            use 1, or 0.1 on CIFAR. Defaults to 0.5.
        final_weight (float): Weight of the term of the student's own logits.
            Defaults to 1.0.
        epsilon (float): epsilon of the stages. Defaults to 1.0.
        final_epsilon (float): epsilon of the student's own logits. Defaults to
            1.0.
        tau (float): Temperature. Defaults to 1.0.

    Raises:
        ValueError: For fewer than one stage.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import OFALoss
        >>> shapes = [(4, 4, 14, 14), (8, 4, 7, 7)]
        >>> maps = [torch.randn(2, *shape) for shape in shapes]
        >>> loss = OFALoss(
        ...     student_shapes=shapes, teacher_width=12, num_classes=6
        ... )
        >>> logits, labels = torch.randn(2, 6), torch.tensor([0, 1])
        >>> loss(logits, maps, torch.randn(2, 6), labels).shape
        torch.Size([])
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        *,
        student_shapes: Sequence[Tuple[int, int, int, int]],
        teacher_width: int,
        num_classes: int,
        stages: int = 3,
        stage_weight: float = 0.5,
        final_weight: float = 1.0,
        epsilon: float = 1.0,
        final_epsilon: float = 1.0,
        tau: float = 1.0,
    ) -> None:
        super().__init__()
        check_ranges(
            'OFALoss',
            loss_weight=loss_weight,
            stages=stages,
            stage_weight=stage_weight,
            final_weight=final_weight,
            epsilon=epsilon,
            final_epsilon=final_epsilon,
            tau=tau,
        )
        self.loss_weight = loss_weight
        self.stage_weight = stage_weight
        self.final_weight = final_weight
        self.epsilon = epsilon
        self.final_epsilon = final_epsilon
        self.tau = tau
        used = list(student_shapes)[-stages:]
        width = max(used[-1][0], teacher_width)
        self.heads = nn.ModuleList(
            stage_head(shape[0], width, len(used) - 1 - i, num_classes)
            for i, shape in enumerate(used)
        )

    def forward(
        self,
        student_logits: Tensor,
        student_maps: List[Tensor],
        teacher_logits: Tensor,
        labels: Tensor,
    ) -> Tensor:
        """Computes the weighted :func:`ofa_loss` of stages and logits.

        Args:
            student_logits (Tensor): (B, N).
            student_maps (list[Tensor]): Each (B, C, T, H, W), shallow to
                deep.
            teacher_logits (Tensor): (B, N).
            labels (Tensor): Classes, (B,).

        Returns:
            Tensor: Scalar.
        """
        teacher_logits = teacher_logits.detach()
        maps = student_maps[-len(self.heads) :]
        stages = sum(
            ofa_loss(
                head(at_least_float32(stage)),
                teacher_logits,
                labels,
                self.epsilon,
                self.tau,
            )
            for head, stage in zip(self.heads, maps)
        )
        final = ofa_loss(
            student_logits,
            teacher_logits,
            labels,
            self.final_epsilon,
            self.tau,
        )
        return self.loss_weight * (
            self.stage_weight * stages + self.final_weight * final
        )
