"""Cross-architecture knowledge distillation (Liu et al., ACCV 2022).

A CNN student learns the attention of its transformer teacher (partially
crossed attention, PCA) and the teacher's tokens (group-wise linear, GL), and
learns to produce tokens that a discriminator cannot distinguish from the
teacher's. There is no official code.

The teacher's queries, keys and values are fixed random projections of its
final tokens, not those of its last block: a multiscale ViT pools its keys and
values onto a coarser grid than its queries, other blocks hide them in one
fused call, and a CNN teacher has none.
"""

from typing import Dict, List, Sequence, Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from einops import rearrange
from mmaction.registry import MODELS
from torch import Tensor
from torch.func import functional_call

from ..modules.grid import resize_grid
from ..modules.projections import orthogonal_matrix
from .numerics import at_least_float32
from .options import check_choice, check_ranges

VALUE_RELATIONS = ('square', 'gram')


def partially_crossed(
    student: Tensor, teacher: Tensor, probability: float
) -> Tensor:
    """Replaces random elements of the student's tensor by the teacher's.

    Args:
        student (Tensor): Any shape.
        teacher (Tensor): The same shape.
        probability (float): Probability of a replacement, in [0, 1].

    Returns:
        Tensor: The same shape; replaced elements have no gradient.
    """
    return torch.where(
        torch.rand_like(student) < probability, teacher, student
    )


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Computes ``softmax(Q K^T / sqrt(d)) V`` of one head; all (B, N, d)."""
    scores = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5
    return scores.softmax(dim=-1) @ value


def value_relation(value: Tensor, value_rel: str) -> Tensor:
    """Computes the relation of the values, "V V / sqrt(d)" in the paper.

    Args:
        value (Tensor): (B, N, d).
        value_rel (str): ``'square'``: squares of the elements, (B, N, d);
            ``'gram'``: inner products of all pairs of tokens, (B, N, N).

    Returns:
        Tensor: The relation, divided by the square root of d.
    """
    check_choice('value_relation', 'value_rel', value_rel, VALUE_RELATIONS)
    scale = value.shape[-1] ** -0.5
    if value_rel == 'gram':
        return scale * value @ value.transpose(1, 2)
    return scale * value.square()


def proj1_loss(
    student_qkv: Sequence[Tensor],
    teacher_qkv: Sequence[Tensor],
    replace_probability: float = 0.5,
    value_rel: str = 'square',
) -> Tensor:
    """Computes L_proj1: partially crossed attention and value relation.

    Args:
        student_qkv (Sequence[Tensor]): Queries, keys, values, each
            (B, N, d).
        teacher_qkv (Sequence[Tensor]): The teacher's, with the same shapes.
        replace_probability (float): Probability for each of the student's
            elements, see :func:`partially_crossed`.
        value_rel (str): See :func:`value_relation`.

    Returns:
        Tensor: Scalar: both squared errors are means over elements.
    """
    crossed = [
        partially_crossed(student, teacher, replace_probability)
        for student, teacher in zip(student_qkv, teacher_qkv)
    ]
    return F.mse_loss(
        attention(*crossed), attention(*teacher_qkv)
    ) + F.mse_loss(
        value_relation(student_qkv[2], value_rel),
        value_relation(teacher_qkv[2], value_rel),
    )


def discriminator_loss(
    teacher_scores: Tensor, student_scores: Tensor
) -> Tensor:
    """Computes L_MAD, -log D(teacher) - log(1 - D(student)), to train D.

    Args:
        teacher_scores (Tensor): Logits of D, any shape.
        student_scores (Tensor): Logits of D, any shape.

    Returns:
        Tensor: Scalar.
    """
    return F.binary_cross_entropy_with_logits(
        teacher_scores, torch.ones_like(teacher_scores)
    ) + F.binary_cross_entropy_with_logits(
        student_scores, torch.zeros_like(student_scores)
    )


def adversarial_loss(student_scores: Tensor) -> Tensor:
    """Computes L_MVG, log(1 - D(student)), which the student minimises.

    Args:
        student_scores (Tensor): Logits of D, any shape.

    Returns:
        Tensor: Scalar, at most 0.
    """
    return -F.binary_cross_entropy_with_logits(
        student_scores, torch.zeros_like(student_scores)
    )


class GroupwiseLinear(nn.Module):
    """Group-wise linear layer (GL): one linear map per group of positions.

    Args:
        in_channels (int): Channels of the map.
        out_channels (int): Channels of the output.
        grid (tuple[int, int, int]): (T, H, W) of the map.
        neighbourhood (tuple[int, int, int]): Size of the contiguous blocks
            of positions that share a matrix; those at the far ends may be
            smaller.
        dropout (float): Probability that an input is zeroed. (Zeros in the
            output would distinguish it from the teacher's tokens.)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Tuple[int, ...],
        neighbourhood: Tuple[int, int, int],
        dropout: float,
    ) -> None:
        super().__init__()
        self.grid = tuple(grid)
        self.neighbourhood = tuple(neighbourhood)
        self.blocks = [
            -(-length // block) for length, block in zip(grid, neighbourhood)
        ]
        self.groups = self.blocks[0] * self.blocks[1] * self.blocks[2]
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Conv1d(
            self.groups * in_channels,
            self.groups * out_channels,
            1,
            groups=self.groups,
        )

    def forward(self, feature_map: Tensor) -> Tensor:
        """Maps (B, C_in) and a grid to (B, C_out) on the same grid."""
        padding: List[int] = []
        for length, block, blocks in zip(
            self.grid, self.neighbourhood, self.blocks
        ):
            padding = [0, blocks * block - length, *padding]
        i, j, k = self.neighbourhood
        in_groups = rearrange(
            F.pad(self.dropout(feature_map), padding),
            'b c (t i) (h j) (w k) -> b (t h w c) (i j k)',
            i=i,
            j=j,
            k=k,
        )
        frames, height, width = self.grid
        t, h, w = self.blocks
        return rearrange(
            self.linear(in_groups),
            'b (t h w c) (i j k) -> b c (t i) (h j) (w k)',
            t=t,
            h=h,
            w=w,
            i=i,
            j=j,
            k=k,
        )[:, :, :frames, :height, :width]


def as_tokens(feature_map: Tensor) -> Tensor:
    """Reshapes (B, C, T, H, W) to (B, T * H * W, C)."""
    return rearrange(feature_map, 'b c t h w -> b (t h w) c')


@MODELS.register_module()
class CAKDLoss(nn.Module):
    """CAKD: PCA and GL projectors and the multi-view adversarial term.

    Both maps are resized to the smaller grid. ``ClipCorruption`` creates the
    different views of the student. The label loss is computed separately. One
    optimizer trains all parts: the discriminator learns from detached tokens,
    the student from a detached discriminator. All layers are used in training
    only.

    Args:
        loss_weight (float): Weight of all terms together. Defaults to 1.0.
        student_shape (tuple): (C, T, H, W) of the student's map.
        teacher_shape (tuple): (C, T, H, W) of the teacher's map.
        pca_weight (float): Weight of L_proj1. Defaults to 1.0.
        gl_weight (float): Weight of L_proj2, the mean squared error of the
            tokens. Defaults to 1.0.
        adversarial_weight (float): lambda, weight of L_MVG; the authors do not
            publish theirs. Defaults to 0.1.
        replace_probability (float): See :func:`partially_crossed`. Defaults
            to 0.5.
        value_rel (str): ``'square'`` or ``'gram'``, see
            :func:`value_relation`. The latter has values of several hundred at
            first and large gradients; it needs a ``pca_weight`` of about 1e-3.
            Defaults to ``'square'``.
        neighbourhood (tuple[int, int, int]): Positions (T, H, W) that share
            a matrix of the GL projector. Defaults to (1, 4, 4).
        dropout (float): Dropout of the GL projector. Defaults to 0.1.
        discriminator_width (int): Width of both hidden layers. Defaults to
            256.
        seed (int): Seed of the projections that compute the teacher's queries,
            keys and values. Defaults to 0.

    Attributes:
        monitors (dict): After a call, ``proj1``, ``proj2``, ``mad`` and
            ``mvg``, without weights.

    Raises:
        ValueError: For an unknown ``value_rel`` or a probability outside
            [0, 1].

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import CAKDLoss
        >>> loss = CAKDLoss(
        ...     student_shape=(8, 4, 8, 8), teacher_shape=(12, 4, 8, 8)
        ... )
        >>> student = torch.randn(2, 8, 4, 8, 8)
        >>> loss(student, torch.randn(2, 12, 4, 8, 8)).shape
        torch.Size([])
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        *,
        student_shape: Tuple[int, int, int, int],
        teacher_shape: Tuple[int, int, int, int],
        pca_weight: float = 1.0,
        gl_weight: float = 1.0,
        adversarial_weight: float = 0.1,
        replace_probability: float = 0.5,
        value_rel: str = 'square',
        neighbourhood: Tuple[int, int, int] = (1, 4, 4),
        dropout: float = 0.1,
        discriminator_width: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_ranges(
            'CAKDLoss',
            loss_weight=loss_weight,
            pca_weight=pca_weight,
            gl_weight=gl_weight,
            adversarial_weight=adversarial_weight,
            replace_probability=replace_probability,
            dropout=dropout,
            discriminator_width=discriminator_width,
            seed=seed,
        )
        check_choice('CAKDLoss', 'value_rel', value_rel, VALUE_RELATIONS)
        self.loss_weight = loss_weight
        self.pca_weight = pca_weight
        self.gl_weight = gl_weight
        self.adversarial_weight = adversarial_weight
        self.replace_probability = replace_probability
        self.value_rel = value_rel
        student_width, teacher_width = student_shape[0], teacher_shape[0]
        self.grid = tuple(map(min, student_shape[1:], teacher_shape[1:]))
        # three 3 x 3 convolutions in one
        self.student_qkv = nn.Conv3d(
            student_width, 3 * teacher_width, (1, 3, 3), padding=(0, 1, 1)
        )
        self.gl_projector = GroupwiseLinear(
            student_width, teacher_width, self.grid, neighbourhood, dropout
        )
        self.discriminator = nn.Sequential(
            nn.Linear(teacher_width, discriminator_width),
            nn.ReLU(),
            nn.Linear(discriminator_width, discriminator_width),
            nn.ReLU(),
            nn.Linear(discriminator_width, 1),
        )
        self.register_buffer(
            'teacher_qkv',
            torch.stack(
                [
                    orthogonal_matrix(teacher_width, teacher_width, seed + i)
                    for i in range(3)
                ]
            ),
            persistent=False,
        )
        self.monitors: Dict[str, Tensor] = {}

    def forward(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Computes the weighted terms of the student and the discriminator.

        Args:
            student_map (Tensor): (B, C_s, T, H, W).
            teacher_map (Tensor): (B, C_t, T', H', W').

        Returns:
            Tensor: Scalar.
        """
        student_map = resize_grid(at_least_float32(student_map), self.grid)
        teacher_map = resize_grid(
            at_least_float32(teacher_map.detach()), self.grid
        )
        teacher_tokens = as_tokens(teacher_map)  # (B, N, C_t)
        # A transformer's blocks normalise their tokens, too. Without it a
        # CNN's activations could be so large that the softmax saturates.
        normalised = F.layer_norm(teacher_tokens, teacher_tokens.shape[-1:])
        proj1 = proj1_loss(
            as_tokens(self.student_qkv(student_map)).chunk(3, dim=-1),
            [normalised @ matrix for matrix in self.teacher_qkv],
            self.replace_probability,
            self.value_rel,
        )
        student_tokens = as_tokens(self.gl_projector(student_map))
        proj2 = F.mse_loss(student_tokens, teacher_tokens)
        mad = discriminator_loss(
            self.discriminator(teacher_tokens),
            self.discriminator(student_tokens.detach()),
        )
        fixed = {
            name: parameter.detach()
            for name, parameter in self.discriminator.named_parameters()
        }
        mvg = adversarial_loss(
            functional_call(self.discriminator, fixed, (student_tokens,))
        )
        self.monitors = {
            name: value.detach()
            for name, value in dict(
                proj1=proj1, proj2=proj2, mad=mad, mvg=mvg
            ).items()
        }
        return self.loss_weight * (
            self.pca_weight * proj1
            + self.gl_weight * proj2
            + self.adversarial_weight * mvg
            + mad
        )
