"""Discrepancy-Aware Teacher Weighting (paper section 3.3, Eq. 3 to 7).

In order: confidence (Eq. 4), discrepancy (Eq. 5), weights (Eq. 6), fused
    target (Eq. 3), loss (Eq. 7). ``docs/equations.md`` explains where the
    defaults differ from the printed equations.
"""

import math
from typing import Dict, List, Optional, Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor

from .kd import kl_divergence
from .logit_standardisation import standardise_logits
from .numerics import at_least_float32
from .options import check_choice, check_ranges, preset_options
from .several_teachers import weighted_kd_loss

CONFIDENCES = (
    'one_plus_negentropy',
    'paper_literal',
    'max_prob',
    'exp_neg_entropy',
    'margin',
)
DISCREPANCIES = ('centred_cosine', 'raw_cosine', 'prob_cosine', 'js')
SCORES = ('product', 'confidence', 'discrepancy', 'uniform')
WEIGHT_NORMS = ('ratio_sum_to_one', 'paper_ratio', 'softmax')
FUSIONS = ('logit', 'prob', 'standardised_logit', 'loss')


def teacher_confidence(logits: Tensor, tau: float, kind: str) -> Tensor:
    """Computes a teacher's confidence in each sample (Eq. 4).

    Args:
        logits (Tensor): Teacher logits, (B, N).
        tau (float): Temperature of the softmax.
        kind (str): ``'one_plus_negentropy'``: 1 - H / log N, in [0, 1];
            ``'paper_literal'``: -H / log N, in [-1, 0], as printed;
            ``'max_prob'``; ``'exp_neg_entropy'``: exp(-H);
            ``'margin'``: first minus second probability.

    Returns:
        Tensor: (B,).
    """
    check_choice('teacher_confidence', 'kind', kind, CONFIDENCES)
    log_probs = F.log_softmax(at_least_float32(logits) / tau, dim=1)
    probs = log_probs.exp()
    if kind == 'max_prob':
        return probs.amax(dim=1)
    if kind == 'margin':
        first, second = probs.topk(2, dim=1).values.unbind(dim=1)
        return first - second
    negative_entropy = (probs * log_probs).sum(dim=1)
    if kind == 'exp_neg_entropy':
        return negative_entropy.exp()
    literal = negative_entropy / math.log(logits.shape[1])
    return literal if kind == 'paper_literal' else 1 + literal


def student_teacher_discrepancy(
    student_logits: Tensor, teacher_logits: Tensor, kind: str, tau: float = 1.0
) -> Tensor:
    """Computes the distance of student and teacher per sample (Eq. 5).

    Args:
        student_logits (Tensor): (B, N).
        teacher_logits (Tensor): (B, N).
        kind (str): ``'prob_cosine'``: cosine distance of the softmaxes;
            ``'raw_cosine'``: of the logits, as printed; ``'centred_cosine'``:
            of the logits minus their mean over classes (with two classes it is
            always 0 or 2); ``'js'``: Jensen-Shannon divergence / log 2.
        tau (float): Temperature of the softmaxes.

    Returns:
        Tensor: (B,), in [0, 2] for the cosines of logits, else in [0, 1]. A
            zero vector counts as orthogonal to all vectors (1).
    """
    check_choice('student_teacher_discrepancy', 'kind', kind, DISCREPANCIES)
    student = at_least_float32(student_logits)
    teacher = at_least_float32(teacher_logits)
    if kind == 'js':
        student_log = F.log_softmax(student / tau, dim=1)
        teacher_log = F.log_softmax(teacher / tau, dim=1)
        mean_log = torch.logaddexp(student_log, teacher_log) - math.log(2)
        to_mean = (
            student_log.exp() * (student_log - mean_log)
            + teacher_log.exp() * (teacher_log - mean_log)
        ).sum(dim=1)
        return (to_mean / (2 * math.log(2))).clamp(min=0)
    if kind == 'centred_cosine':
        student = student - student.mean(dim=1, keepdim=True)
        teacher = teacher - teacher.mean(dim=1, keepdim=True)
    elif kind == 'prob_cosine':
        student = F.softmax(student / tau, dim=1)
        teacher = F.softmax(teacher / tau, dim=1)
    return (1 - F.cosine_similarity(student, teacher, dim=1)).clamp(min=0)


def normalise_scores(scores: Tensor, kind: str, eps: float) -> Tensor:
    """Turns scores into weights (Eq. 6).

    Args:
        scores (Tensor): (B, K), one column per teacher.
        kind (str): ``'ratio_sum_to_one'``: ``(|s| + eps / K) / (sum |s| +
            eps)``, which sums to one and is 1 / K if all scores are 0;
            ``'paper_ratio'``: ``s / (sum s + eps)`` as printed; ``'softmax'``.
        eps (float): See above.

    Returns:
        Tensor: (B, K).
    """
    check_choice('normalise_scores', 'kind', kind, WEIGHT_NORMS)
    if kind == 'softmax':
        return F.softmax(scores, dim=1)
    if kind == 'paper_ratio':
        return scores / (scores.sum(dim=1, keepdim=True) + eps)
    # The printed confidence is negative for every teacher. The ratio of the
    # magnitudes then equals the printed ratio.
    scores = scores.abs()
    return (scores + eps / scores.shape[1]) / (
        scores.sum(dim=1, keepdim=True) + eps
    )


def datw_weights(
    student_logits: Tensor,
    teacher_logits: Sequence[Tensor],
    tau: float = 4.0,
    score: str = 'product',
    confidence: str = 'one_plus_negentropy',
    discrepancy: str = 'prob_cosine',
    weight_norm: str = 'ratio_sum_to_one',
    eps: float = 1e-6,
    conf_temperature: Optional[float] = None,
    trust: Optional[Tensor] = None,
) -> Tensor:
    """Computes the weight of every teacher per sample (Eq. 4 to 6).

    Args:
        student_logits (Tensor): (B, N).
        teacher_logits (Sequence[Tensor]): K tensors of (B, N).
        tau (float): Temperature. Defaults to 4.0.
        score (str): ``'product'`` of confidence and discrepancy, one of the
            two alone, or ``'uniform'`` (the rows of Table 5).
        confidence (str): See :func:`teacher_confidence`.
        discrepancy (str): See :func:`student_teacher_discrepancy`.
        weight_norm (str): See :func:`normalise_scores`.
        eps (float): See :func:`normalise_scores`. Defaults to 1e-6.
        conf_temperature (float, optional): Temperature of the confidence.
            Defaults to ``tau``, as in the paper.
        trust (Tensor, optional): Factor of each teacher's score, (K,).
            Defaults to 1 for all.

    Returns:
        Tensor: (B, K).
    """
    check_choice('datw_weights', 'score', score, SCORES)
    columns = []
    for logits in teacher_logits:
        value = at_least_float32(logits).new_ones(len(logits))
        if score in ('product', 'confidence'):
            value = value * teacher_confidence(
                logits, conf_temperature or tau, confidence
            )
        if score in ('product', 'discrepancy'):
            value = value * student_teacher_discrepancy(
                student_logits, logits, discrepancy, tau
            )
        columns.append(value)
    scores = torch.stack(columns, dim=1)  # (B, K)
    if trust is not None:
        scores = scores * trust
    return normalise_scores(scores, weight_norm, eps)


def fused_log_probs(
    teacher_logits: Sequence[Tensor], weights: Tensor, tau: float, fuse: str
) -> Tensor:
    """Fuses the weighted teachers into one target (Eq. 3).

    Args:
        teacher_logits (Sequence[Tensor]): K tensors of (B, N).
        weights (Tensor): (B, K).
        tau (float): Temperature.
        fuse (str): ``'logit'``: softmax of the weighted logits, as printed (a
            geometric mean); ``'prob'``: weighted softmaxes, with weights
            normalised to sum to one; ``'standardised_logit'``: logits with
            zero mean and unit standard deviation per sample.

    Returns:
        Tensor: Log-probabilities at ``tau``, (B, N).
    """
    stacked = torch.stack([at_least_float32(x) for x in teacher_logits], 1)
    weights = weights.unsqueeze(-1)  # (B, K, 1)
    if fuse == 'prob':
        log_probs = F.log_softmax(stacked / tau, dim=2)  # (B, K, N)
        log_weights = weights.clamp(min=1e-30).log()
        return torch.logsumexp(
            log_probs + log_weights.log_softmax(dim=1), dim=1
        )
    if fuse == 'standardised_logit':
        stacked = standardise_logits(stacked)
    return F.log_softmax((weights * stacked).sum(dim=1) / tau, dim=1)


def datw_loss(
    student_logits: Tensor,
    teacher_logits: Sequence[Tensor],
    weights: Tensor,
    tau: float,
    fuse: str,
) -> Tensor:
    """Computes the distillation from the weighted teachers (Eq. 3 and 7).

    Args:
        student_logits (Tensor): (B, N).
        teacher_logits (Sequence[Tensor]): K tensors of (B, N).
        weights (Tensor): (B, K) of :func:`datw_weights`.
        tau (float): Temperature.
        fuse (str): See :func:`fused_log_probs`; also ``'loss'``: the weighted
            sum of one KL per teacher.

    Returns:
        Tensor: Scalar, mean over the batch, times ``tau ** 2``.
    """
    check_choice('datw_loss', 'fuse', fuse, FUSIONS)
    if fuse == 'loss':
        return weighted_kd_loss(student_logits, teacher_logits, weights, tau)
    target = fused_log_probs(teacher_logits, weights, tau, fuse)
    student_logits = at_least_float32(student_logits)
    return tau**2 * kl_divergence(target, student_logits, tau).mean()


@MODELS.register_module()
class DATWLoss(nn.Module):
    """L_SR: distillation from teachers that are weighted per sample.

    Args:
        loss_weight (float): alpha of Eq. 14. Defaults to 1.0.
        preset (str): The options to start from, a key of :attr:`PRESETS`:
            ``'corrected'`` (default) or ``'paper_literal'``, the equations
            as printed.
        **options: Any key of a preset, to override it: ``tau``, ``score``,
            ``confidence``, ``discrepancy``, ``weight_norm``, ``eps`` and
            ``conf_temperature`` as in :func:`datw_weights`, ``fuse`` as in
            :func:`datw_loss`, and ``detach_weights``: whether the weights
            are constants for the gradient (else the student can lower the
            loss by moving its own target).

    Attributes:
        monitors (dict): After a call, means over the batch of each teacher's
            weight, confidence and discrepancy.

    Example:
        >>> import torch
        >>> from dtkd_mmaction.losses import DATWLoss
        >>> student, vit, cnn = torch.randn(3, 4, 6).unbind()
        >>> loss = DATWLoss(tau=4.0)
        >>> loss(student, dict(vit=vit, cnn=cnn)).shape
        torch.Size([])
        >>> sorted(loss.monitors)[:2]
        ['confidence/cnn', 'confidence/vit']
    """

    PRESETS: Dict[str, dict] = dict(
        corrected=dict(
            tau=4.0,
            score='product',
            confidence='one_plus_negentropy',
            discrepancy='prob_cosine',
            weight_norm='ratio_sum_to_one',
            eps=1e-6,
            conf_temperature=None,
            fuse='logit',
            detach_weights=True,
        ),
        paper_literal=dict(
            tau=4.0,
            score='product',
            confidence='paper_literal',
            discrepancy='raw_cosine',
            weight_norm='paper_ratio',
            eps=1e-6,
            conf_temperature=None,
            fuse='logit',
            detach_weights=False,
        ),
    )

    def __init__(
        self, loss_weight: float = 1.0, preset: str = 'corrected', **options
    ) -> None:
        super().__init__()
        options = preset_options('DATWLoss', self.PRESETS, preset, options)
        check_ranges('DATWLoss', loss_weight=loss_weight, **options)
        for name, choices in (
            ('score', SCORES),
            ('confidence', CONFIDENCES),
            ('discrepancy', DISCREPANCIES),
            ('weight_norm', WEIGHT_NORMS),
            ('fuse', FUSIONS),
        ):
            check_choice('DATWLoss', name, options[name], choices)
        self.loss_weight = loss_weight
        self.detach_weights = options.pop('detach_weights')
        self.fuse = options.pop('fuse')
        self.weight_options = options
        self.monitors: Dict[str, Tensor] = {}

    @property
    def tau(self) -> float:
        """Temperature of the distillation."""
        return self.weight_options['tau']

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Dict[str, Tensor],
        trust: Optional[Tensor] = None,
    ) -> Tensor:
        """Computes the weighted :func:`datw_loss`.

        Args:
            student_logits (Tensor): (B, N).
            teacher_logits (dict[str, Tensor]): Teacher name -> (B, N).
            trust (Tensor, optional): See :func:`datw_weights`.

        Returns:
            Tensor: Scalar.
        """
        names = list(teacher_logits)
        logits = [teacher_logits[name].detach() for name in names]
        weights = datw_weights(
            student_logits, logits, trust=trust, **self.weight_options
        )
        if self.detach_weights:
            weights = weights.detach()
        self._watch(names, student_logits.detach(), logits, weights.detach())
        return self.loss_weight * datw_loss(
            student_logits, logits, weights, self.tau, self.fuse
        )

    @torch.no_grad()
    def _watch(
        self,
        names: List[str],
        student_logits: Tensor,
        logits: List[Tensor],
        weights: Tensor,
    ) -> None:
        options = self.weight_options
        for column, (name, teacher) in enumerate(zip(names, logits)):
            self.monitors[f'datw/{name}'] = weights[:, column].mean()
            self.monitors[f'confidence/{name}'] = teacher_confidence(
                teacher,
                options['conf_temperature'] or options['tau'],
                options['confidence'],
            ).mean()
            self.monitors[f'discrepancy/{name}'] = student_teacher_discrepancy(
                student_logits, teacher, options['discrepancy'], options['tau']
            ).mean()
