"""Adaptive ensemble KD in gradient space (Du et al., NeurIPS 2020)."""

from typing import List, Optional, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmengine import dist
from scipy.optimize import LinearConstraint, minimize
from torch import Tensor

from .numerics import at_least_float32
from .options import check_ranges
from .several_teachers import SeveralTeachersLoss

# Share of equal weights in the solution, which makes it unique: where several
# are as good, as for equal teachers, the most even one is taken.
RIDGE = 1e-9


def mean_gradients(
    student_logits: Tensor, teacher_logits: Sequence[Tensor], tau: float
) -> Tensor:
    """Computes the mean gradient of every teacher's KD loss at the logits.

    ``g_k = mean_b tau (softmax(z_S / tau) - softmax(z_k / tau))``, the mean
    over the samples of all ranks.

    Args:
        student_logits (Tensor): (B, N).
        teacher_logits (Sequence[Tensor]): K tensors of (B, N).
        tau (float): Temperature.

    Returns:
        Tensor: (K, N) in float64.
    """
    student, *teachers = (
        F.softmax(logits.double() / tau, dim=1).sum(dim=0)
        for logits in (student_logits, *teacher_logits)
    )
    sums = tau * torch.stack([student - teacher for teacher in teachers])
    count = sums.new_full((1, sums.shape[1]), len(student_logits))
    totals = torch.cat([sums, count])
    dist.all_reduce(totals)
    return totals[:-1] / totals[-1]


def min_norm_weights(gradients: Tensor, cap: float = 1.0) -> Tensor:
    """Finds the convex combination of gradients with the smallest norm.

    ``argmin_alpha ||sum_k alpha_k g_k|| ** 2`` with ``sum alpha = 1`` and
    ``0 <= alpha_k <= cap``. Two gradients have a closed form,
    ``alpha_1 = (g_2 - g_1) . g_2 / ||g_1 - g_2|| ** 2``, clipped; more are
    solved by SciPy on the CPU.

    Args:
        gradients (Tensor): (K, N).
        cap (float): Largest weight, at least 1 / K. Defaults to 1.0.

    Returns:
        Tensor: (K,) in float64.
    """
    gradients = gradients.double()
    count = len(gradients)
    gram = gradients @ gradients.t()
    scale = gram.diagonal().mean().clamp(min=1e-300)
    gram = gram / scale + RIDGE * torch.eye(count).to(gram)
    if count == 1:
        return torch.ones(1).to(gram)
    if count == 2:
        first = (gram[1, 1] - gram[0, 1]) / (
            gram[0, 0] + gram[1, 1] - 2 * gram[0, 1]
        )
        first = first.clamp(max(0.0, 1 - cap), min(1.0, cap))
        return torch.stack([first, 1 - first])
    matrix = gram.cpu().numpy()
    found = minimize(
        lambda alpha: 0.5 * alpha @ matrix @ alpha,
        np.full(count, 1 / count),
        jac=lambda alpha: matrix @ alpha,
        method='SLSQP',
        bounds=[(0, cap)] * count,
        constraints=LinearConstraint(np.ones(count), 1, 1),
        options=dict(ftol=1e-15, maxiter=200),
    )
    alpha = torch.from_numpy(found.x).clamp(min=0).to(gram)
    return alpha / alpha.sum()


@torch.no_grad()
def aekd_weights(
    student_logits: Tensor,
    teacher_logits: Sequence[Tensor],
    tau: float,
    nu: Optional[float] = None,
) -> Tensor:
    """Computes the weights of the teachers for this batch.

    The gradients of :func:`mean_gradients` are scaled to unit length;
    :func:`min_norm_weights` balances their directions; the weights of the
    losses are then ``(alpha_k / ||g_k||) / sum_j (alpha_j / ||g_j||)``. For
    two teachers alpha is always 1/2 then, so only the lengths count.

    Args:
        student_logits (Tensor): (B, N).
        teacher_logits (Sequence[Tensor]): K tensors of (B, N).
        tau (float): Temperature.
        nu (float, optional): alpha is at most ``1 / (nu K)``: 1 gives all
            teachers the same alpha. Defaults to None: 1 / K, no limit.

    Returns:
        Tensor: (K,), sums to one.
    """
    gradients = mean_gradients(student_logits, teacher_logits, tau)
    # A student that follows a teacher exactly has no gradient.
    norms = gradients.norm(dim=1).clamp(min=1e-12)
    count = len(gradients)
    cap = min(1.0, 1 / (nu * count)) if nu is not None else 1.0
    alpha = min_norm_weights(gradients / norms[:, None], cap)
    weights = alpha / norms
    return (weights / weights.sum()).to(at_least_float32(student_logits))


@MODELS.register_module()
class AEKDLoss(SeveralTeachersLoss):
    """Distillation along the direction on which the teachers agree.

    Args:
        loss_weight (float): Defaults to 1.0.
        tau (float): Temperature. Defaults to 4.0.
        nu (float, optional): Tolerance of disagreement, see
            :func:`aekd_weights`. Defaults to None.

    Attributes:
        monitors (dict): After a call, ``aekd/<teacher>``: the weights of
            this batch.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import AEKDLoss
        >>> student, a, b, c = torch.randn(4, 5, 6).unbind()
        >>> loss = AEKDLoss()
        >>> value = loss(student, dict(a=a, b=b, c=c))
        >>> round(float(sum(loss.monitors.values())), 4)
        1.0
    """

    NAME = 'aekd'

    def __init__(
        self,
        loss_weight: float = 1.0,
        tau: float = 4.0,
        nu: Optional[float] = None,
    ) -> None:
        super().__init__(loss_weight, tau)
        check_ranges('AEKDLoss', nu=nu)
        self.nu = nu

    def weigh(
        self,
        student_logits: Tensor,
        teacher_logits: List[Tensor],
        labels: Optional[Tensor],
    ) -> Tensor:
        """Computes :func:`aekd_weights`, the same for every sample."""
        weights = aekd_weights(
            student_logits, teacher_logits, self.tau, self.nu
        )
        return weights.expand(len(student_logits), -1)
