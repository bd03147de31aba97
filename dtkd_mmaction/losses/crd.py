"""Contrastive representation distillation (Tian, Krishnan, Isola, ICLR 2020).

The student's embedding of a clip must be closer to the teacher's embedding of
the same clip than to those of clips of other classes, and vice versa. Two
memory banks store the embeddings of the other clips.
"""

import math
from typing import Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmengine import dist
from torch import Tensor

from .numerics import at_least_float32
from .options import check_ranges

UNSEEN = -1


def crd_loss(positive: Tensor, negatives: Tensor, num_samples: int) -> Tensor:
    """Noise-contrastive loss with ``P(same clip) = P / (P + M / n)``.

    Args:
        positive (Tensor): log P of each anchor's own entry, (B,).
        negatives (Tensor): log P of M entries of other classes, (B, M).
        num_samples (int): n, entries of the bank.

    Returns:
        Tensor: Scalar, the mean over the batch.
    """
    log_noise = math.log(negatives.shape[1] / num_samples)
    # log(P / (P + c)) = -softplus(log c - log P), with no fraction that
    # float32 could round to 0.
    from_positive = F.softplus(log_noise - positive)
    from_negatives = F.softplus(negatives - log_noise).sum(dim=1)
    return (from_positive + from_negatives).mean()


def draw_negatives(
    bank_labels: Tensor, sample_ids: Tensor, labels: Tensor, count: int
) -> Tensor:
    """Draws entries of other classes, uniformly and with replacement.

    Args:
        bank_labels (Tensor): Class of every entry, (n,); ``UNSEEN`` is no
            anchor's class.
        sample_ids (Tensor): The anchors' own entries, (B,).
        labels (Tensor): The anchors' classes, (B,).
        count (int): M.

    Returns:
        Tensor: Indices, (B, M).

    Raises:
        ValueError: If there is no entry of another class.
    """
    allowed = bank_labels != labels[:, None]  # (B, n)
    allowed.scatter_(1, sample_ids[:, None], False)
    if not allowed.any(dim=1).all():
        raise ValueError(
            'CRDLoss: all samples of the training set are of one class, so '
            'there are no negatives.'
        )
    return torch.multinomial(allowed.float(), count, replacement=True)


@MODELS.register_module()
class CRDLoss(nn.Module):
    """Contrastive distillation between pooled vectors, in both directions.

    The banks and their normalisation constants are buffers, so a resumed
    training continues with them. In distributed training, every rank must have
    the same number of samples; the banks of all ranks stay equal.

    Args:
        loss_weight (float): Defaults to 0.8. At chance the loss is about
            2 * (ln(1 + M) + 1), much more than a label loss.
        num_samples (int): Size of the training set.
        student_width (int): D_s.
        teacher_width (int): D_t.
        dim (int): Width of the common embedding space. Defaults to 128.
        negatives (int): M, number of negatives per sample. The authors take
            16384 of 50000; at most a quarter of the training set keeps most
            draws distinct. Defaults to 1024.
        tau (float): Temperature of the similarities. Defaults to 0.07.
        momentum (float): Share of the old entry in an update of the banks.
            Defaults to 0.5.

    Raises:
        ValueError: For fewer than two samples or no negatives.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import CRDLoss
        >>> loss = CRDLoss(
        ...     num_samples=20, student_width=8, teacher_width=12, negatives=5
        ... )
        >>> labels, ids = torch.tensor([0, 1]), torch.tensor([3, 7])
        >>> loss(torch.randn(2, 8), torch.randn(2, 12), labels, ids).shape
        torch.Size([])
    """

    def __init__(
        self,
        loss_weight: float = 0.8,
        *,
        num_samples: int,
        student_width: int,
        teacher_width: int,
        dim: int = 128,
        negatives: int = 1024,
        tau: float = 0.07,
        momentum: float = 0.5,
    ) -> None:
        super().__init__()
        check_ranges(
            'CRDLoss',
            loss_weight=loss_weight,
            num_samples=num_samples,
            dim=dim,
            negatives=negatives,
            tau=tau,
            momentum=momentum,
        )
        self.loss_weight = loss_weight
        self.num_samples = num_samples
        self.negatives = negatives
        self.tau = tau
        self.momentum = momentum
        self.embed_student = nn.Linear(student_width, dim)
        self.embed_teacher = nn.Linear(teacher_width, dim)
        for owner in ('student', 'teacher'):
            # uniform, of about unit length
            bank = (2 * torch.rand(num_samples, dim) - 1) * (3 / dim) ** 0.5
            self.register_buffer(f'{owner}_bank', bank)
        self.register_buffer('bank_labels', torch.full((num_samples,), UNSEEN))
        # log Z of student anchors and of teacher anchors; NaN: not set yet
        self.register_buffer('log_z', torch.full((2,), math.nan))

    def _check_ids(self, sample_ids: Tensor) -> None:
        lowest, highest = int(sample_ids.min()), int(sample_ids.max())
        if lowest < 0 or highest >= self.num_samples:
            wrong = lowest if lowest < 0 else highest
            raise ValueError(
                f'CRDLoss(num_samples={self.num_samples}) got the sample id '
                f'{wrong}. Set num_samples to the number of clips in the '
                f'training set, at least {highest + 1}; ids count from 0.'
            )

    def _similarities(
        self, anchors: Tensor, bank: Tensor, entries: Tensor
    ) -> Tensor:
        """``<anchor, entry> / tau``: (B, dim) and (B, 1 + M) to (B, 1 + M)."""
        # indexing copies, so that updating the bank is safe before backward
        return torch.einsum('bd,bmd->bm', anchors, bank[entries]) / self.tau

    @torch.no_grad()
    def _set_z(self, similarities: Tuple[Tensor, Tensor]) -> None:
        """Sets Z = n * mean(exp) from the first batch of all ranks."""
        z = self.num_samples * torch.stack(
            [values.exp().mean() for values in similarities]
        )
        dist.all_reduce(z, op='mean')
        if z.isfinite().all():  # otherwise float16 has overflowed
            self.log_z.copy_(z.log())

    @torch.no_grad()
    def _update(
        self,
        student: Tensor,
        teacher: Tensor,
        labels: Tensor,
        sample_ids: Tensor,
    ) -> None:
        """Blends the embeddings of all ranks into the banks."""
        student, teacher, labels, sample_ids = (
            torch.cat(dist.all_gather(rows.detach().contiguous()))
            for rows in (student, teacher, labels, sample_ids)
        )
        # A sampler that fills up the last batch repeats samples. The first one
        # is used, so that the result is the same on every rank.
        same = sample_ids == sample_ids[:, None]
        first = ~same.tril(diagonal=-1).any(dim=1)
        # An overflow of float16 would stay in the banks forever.
        first &= student.isfinite().all(1) & teacher.isfinite().all(1)
        ids = sample_ids[first]
        for bank, rows in (
            (self.student_bank, student),
            (self.teacher_bank, teacher),
        ):
            blend = torch.lerp(rows[first].to(bank), bank[ids], self.momentum)
            bank[ids] = F.normalize(blend, dim=1)
        self.bank_labels[ids] = labels[first]

    def forward(
        self,
        student_embedding: Tensor,
        teacher_embedding: Tensor,
        labels: Tensor,
        sample_ids: Tensor,
    ) -> Tensor:
        """Computes the weighted :func:`crd_loss` for both kinds of anchors.

        Args:
            student_embedding (Tensor): (B, D_s).
            teacher_embedding (Tensor): (B, D_t).
            labels (Tensor): Classes, (B,).
            sample_ids (Tensor): Indices in the training set, (B,).

        Returns:
            Tensor: Scalar.

        Raises:
            ValueError: For an id without an entry in the banks.
        """
        self._check_ids(sample_ids)
        student, teacher = (
            F.normalize(embed(at_least_float32(embedding)), dim=1)
            for embed, embedding in (
                (self.embed_student, student_embedding),
                (self.embed_teacher, teacher_embedding.detach()),
            )
        )  # each (B, dim)
        entries = torch.cat(
            [
                sample_ids[:, None],
                draw_negatives(
                    self.bank_labels, sample_ids, labels, self.negatives
                ),
            ],
            dim=1,
        )  # (B, 1 + M)
        similarities = (
            self._similarities(student, self.teacher_bank, entries),
            self._similarities(teacher, self.student_bank, entries),
        )
        if self.log_z.isnan().any():
            self._set_z(similarities)
        loss = sum(
            crd_loss(
                (values - log_z)[:, 0],
                (values - log_z)[:, 1:],
                self.num_samples,
            )
            for values, log_z in zip(similarities, self.log_z)
        )
        self._update(student, teacher, labels, sample_ids)
        return self.loss_weight * loss
