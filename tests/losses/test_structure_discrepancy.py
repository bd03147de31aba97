"""L_SD (Eq. 8 to 10, 12) against the notes' vectors and plain loops."""

import itertools
import math

import pytest
import torch
from torch import nn

from dtkd_mmaction.losses import (
    StructureDiscrepancyLoss,
    dual_mask,
    structure_discrepancy_loss,
)
from dtkd_mmaction.losses.structure_discrepancy import (
    ACT_SCORES,
    EMPTY_POLICIES,
    MASK_COMBINES,
    QUANTILE_SCOPES,
    REDUCTIONS,
    RES_SCORES,
    activation_score,
    quantile_mask,
    residual_score,
)
from dtkd_mmaction.modules import StructureDiscrepancyBranch

SHAPE = (3, 4, 2, 5, 5)  # (B, C, T, H, W)
CHANNELS = dict(student=8, vit=12, cnn=6)


def maps(count, shape=SHAPE, seed=0):
    torch.manual_seed(seed)
    return torch.randn(count, *shape, dtype=torch.float64).unbind()


# ---------------------------------------------------------------------------
# The equations in plain Python, one element at a time.


def quantile(values, q):
    values = sorted(values)
    at = q * (len(values) - 1)
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (at - low) * (values[high] - values[low])


def score_of(vector, kind):
    """One value a position, or one a channel for 'elementwise'."""
    n = len(vector)
    return dict(
        l2=[math.sqrt(sum(v * v for v in vector))],
        mean=[sum(vector) / n],
        signed_mean=[sum(vector) / n],
        mean_abs=[sum(map(abs, vector)) / n],
        mean_sq=[sum(v * v for v in vector) / n],
        elementwise=vector,
    )[kind]


def masked(feature_map, kind, q, scope, strict):
    """{(b, t, h, w): [bool a channel of the score]}."""
    B, _, T, H, W = feature_map.shape
    places = list(itertools.product(*map(range, (B, T, H, W))))
    scores = {
        (b, t, h, w): score_of(feature_map[b, :, t, h, w].tolist(), kind)
        for b, t, h, w in places
    }
    same_scope = dict(
        batch=lambda p: (), sample=lambda p: p[:1], frame=lambda p: p[:2]
    )[scope]
    mask = {p: [] for p in places}
    for channel in range(len(scores[places[0]])):
        for key in {same_scope(p) for p in places}:
            members = [p for p in places if same_scope(p) == key]
            limit = quantile([scores[p][channel] for p in members], q)
            above = {p: scores[p][channel] > limit for p in members}
            if not strict and not any(above.values()):
                above = {p: scores[p][channel] >= limit for p in members}
            for p in members:
                mask[p].append(above[p])
    return mask


def mask_by_loops(residual, f_cnn, options):
    strict = options['empty'] == 'skip'
    scope = options['quantile_scope'], strict
    res = masked(residual, options['res_score'], options['zeta'], *scope)
    act = masked(f_cnn, options['act_score'], options['rho'], *scope)
    act = {p: a * len(res[p]) for p, a in act.items()}
    combine = dict(
        {
            'and': lambda r, a: r and a,
            'or': lambda r, a: r or a,
            'res': lambda r, a: r,
            'act': lambda r, a: a,
            'none': lambda r, a: True,
        }
    )[options['mask_combine']]
    mask = {p: [combine(*ra) for ra in zip(res[p], act[p])] for p in res}
    if options['mask_combine'] == 'and' and not strict:
        for b in range(len(residual)):
            own = [p for p in mask if p[0] == b]
            if not any(any(mask[p]) for p in own):
                mask.update({p: res[p] for p in own})
    return mask


def loss_by_loops(predicted, residual, mask, reduction):
    B, C = residual.shape[:2]
    total = 0.0
    for b in range(B):
        kept, squared, size = 0, 0.0, 0
        for p in (p for p in mask if p[0] == b):
            flags = mask[p] if len(mask[p]) == C else mask[p] * C
            for c, flag in enumerate(flags):
                index = (p[0], c, *p[1:])
                size += 1
                if flag:
                    kept += 1
                    squared += float(predicted[index] - residual[index]) ** 2
        total += dict(
            masked_mean=squared / max(kept, 1),
            sum_per_sample=squared,
            mean_all=squared / size,
        )[reduction]
    return total / B


def standardise(feature_map):
    """Zero mean, unit variance over the channels of every position."""
    out = torch.empty_like(feature_map)
    B, _, T, H, W = feature_map.shape
    for b, t, h, w in itertools.product(*map(range, (B, T, H, W))):
        v = feature_map[b, :, t, h, w]
        centred = v - v.mean()
        out[b, :, t, h, w] = centred / (centred.square().mean() + 1e-5).sqrt()
    return out


VARIATIONS = [
    dict(),
    dict(zeta=0.8, rho=0.2),
    dict(zeta=0.9, rho=0.9),
    dict(zeta=0.9, rho=0.9, empty='skip'),
    dict(zeta=0.0, rho=1.0),
    dict(zeta=0.0, rho=1.0, empty='skip'),
    dict(feat_norm='none'),
    *(dict(res_score=v, feat_norm='none') for v in RES_SCORES),
    *(dict(res_score=v) for v in RES_SCORES if v != 'signed_mean'),
    *(dict(act_score=v) for v in ACT_SCORES),
    *(dict(quantile_scope=v) for v in QUANTILE_SCOPES),
    *(dict(quantile_scope=v, res_score='elementwise') for v in ['batch']),
    *(dict(mask_combine=v) for v in MASK_COMBINES),
    *(dict(reduction=v) for v in REDUCTIONS),
]


@pytest.mark.parametrize('options', VARIATIONS, ids=str)
def test_every_option_against_the_equations(options):
    """Eq. 8 to 10 and 12; the widths agree, so phi is the identity."""
    predicted, f_vit, f_cnn = maps(3)
    written = dict(StructureDiscrepancyLoss.PRESETS['corrected'], **options)
    if written['feat_norm'] == 'none':
        residual = f_vit - f_cnn
    else:
        residual = standardise(f_vit) - standardise(f_cnn)
    mask = mask_by_loops(residual, f_cnn, written)
    expected = loss_by_loops(predicted, residual, mask, written['reduction'])
    loss = StructureDiscrepancyLoss(**options)
    value = float(loss(predicted, f_vit, f_cnn))
    assert value == pytest.approx(expected, rel=1e-10)
    flags = [flag for flags in mask.values() for flag in flags]
    assert float(loss.monitors['mask_kept']) == pytest.approx(
        sum(flags) / len(flags)
    )
    assert float(loss.monitors['residual_var']) == pytest.approx(
        float(residual.var())
    )
    value = float(loss(predicted.float(), f_vit.float(), f_cnn.float()))
    assert value == pytest.approx(expected, rel=1e-5)


def test_paper_literal_against_the_equations():
    """The printed equations, with a phi whose values are known."""
    predicted, f_vit, f_cnn = maps(3)
    loss = StructureDiscrepancyLoss(
        preset='paper_literal', channels=dict(student=4, vit=4, cnn=4)
    ).double()
    phi = loss.projections

    def apply(conv, x):
        weight = conv.weight.detach().flatten(1)
        out = torch.einsum('oc,bcthw->bothw', weight, x)
        return out + conv.bias.detach().view(-1, 1, 1, 1)

    residual = apply(phi.vit, f_vit) - apply(phi.cnn, f_cnn)
    options = StructureDiscrepancyLoss.PRESETS['paper_literal']
    mask = mask_by_loops(residual, f_cnn, options)
    expected = loss_by_loops(predicted, residual, mask, 'sum_per_sample')
    value = loss(predicted, f_vit, f_cnn)
    assert float(value.detach()) == pytest.approx(expected, rel=1e-10)
    value.backward()  # and its phi is trained by L_SD itself
    assert all(p.grad.abs().sum() > 0 for p in phi.parameters())


# ---------------------------------------------------------------------------
# Eq. 12: the reduction (C14).


@pytest.mark.parametrize('combine', MASK_COMBINES)
@pytest.mark.parametrize('res_score', RES_SCORES)
@pytest.mark.parametrize('scope', QUANTILE_SCOPES)
def test_unit_error_costs_one_under_any_mask(combine, res_score, scope):
    f_vit, f_cnn = maps(2)
    loss = StructureDiscrepancyLoss(
        phi='identity',
        feat_norm='none',
        mask_combine=combine,
        res_score=res_score,
        quantile_scope=scope,
    )
    value = loss(f_vit - f_cnn + 1, f_vit, f_cnn)
    assert float(value) == pytest.approx(1.0)


@pytest.mark.parametrize(
    'reduction, expected',
    [('masked_mean', 4.0), ('sum_per_sample', 4 * 4 * 10), ('mean_all', 0.8)],
)
def test_reductions(reduction, expected):
    residual = torch.zeros(SHAPE)
    mask = torch.zeros(3, 1, 2, 5, 5, dtype=torch.bool)
    mask[:, :, :, 0] = True  # 10 of 50 positions
    value = structure_discrepancy_loss(residual + 2, residual, mask, reduction)
    assert float(value) == pytest.approx(expected)


@pytest.mark.parametrize('reduction', REDUCTIONS)
def test_empty_mask_is_zero_with_finite_gradient(reduction):
    predicted = torch.randn(SHAPE, requires_grad=True)
    mask = torch.zeros(3, 1, 2, 5, 5, dtype=torch.bool)
    value = structure_discrepancy_loss(
        predicted, torch.randn(SHAPE), mask, reduction
    )
    value.backward()
    assert value == 0 and (predicted.grad == 0).all()


def test_what_is_masked_out_may_be_infinite():
    predicted, residual = (x.clone() for x in maps(2))
    mask = torch.ones(3, 1, 2, 5, 5, dtype=torch.bool)
    mask[..., 0] = False
    expected = structure_discrepancy_loss(predicted, residual, mask)
    residual[..., 0] = math.inf
    predicted.requires_grad_()
    value = structure_discrepancy_loss(predicted, residual, mask)
    assert torch.equal(value, expected)
    value.backward()
    assert torch.isfinite(predicted.grad).all()
    assert (predicted.grad[..., 0] == 0).all()


@pytest.mark.parametrize('reduction', REDUCTIONS)
def test_gradient_of_the_loss(reduction):
    predicted, residual = (
        x.requires_grad_() for x in maps(2, (2, 3, 1, 2, 2))
    )
    mask = torch.rand(2, 1, 1, 2, 2) > 0.4
    assert torch.autograd.gradcheck(
        lambda p, r: structure_discrepancy_loss(p, r, mask, reduction),
        (predicted, residual),
    )


# ---------------------------------------------------------------------------
# Eq. 9 and 10: the masks (C10 to C13).


class TestMasks:
    def test_keeps_what_lies_above_the_quantile(self):
        score = torch.arange(8.0).reshape(1, 1, 2, 2, 2)
        for q, kept in ((0.5, 4), (0.75, 2), (0.0, 7)):
            assert quantile_mask(score, q, 'sample').sum() == kept

    def test_ties_at_the_quantile(self):
        """C12: 30 zeros of 49 leave 19, not 24."""
        score = torch.zeros(49)
        score[30:] = torch.rand(19) + 1
        mask = quantile_mask(score.reshape(1, 1, 1, 7, 7), 0.5, 'sample')
        assert mask.sum() == 19

    @pytest.mark.parametrize('scope', QUANTILE_SCOPES)
    def test_constant_map(self, scope):
        """C11: the printed ">" keeps nothing of it."""
        score = torch.ones(2, 1, 2, 3, 3)
        assert quantile_mask(score, 0.5, scope).all()
        assert not quantile_mask(score, 0.5, scope, keep_constant=False).any()

    def test_constant_maps_of_both_teachers(self):
        residual, f_cnn = torch.zeros(SHAPE), torch.ones(SHAPE)
        assert dual_mask(residual, f_cnn).all()
        assert not dual_mask(residual, f_cnn, empty='skip').any()

    def test_scopes(self):
        torch.manual_seed(0)
        score = torch.rand(2, 1, 3, 4, 4)
        score[1] += 10
        score[0, :, 2] += 1
        batch = quantile_mask(score, 0.5, 'batch')
        assert not batch[0].any() and batch[1].all()
        sample = quantile_mask(score, 0.5, 'sample')
        assert sample[0, :, 2].all()
        assert (sample.flatten(1).sum(1) == 24).all()
        frame = quantile_mask(score, 0.5, 'frame')
        assert (frame.flatten(3).sum(3) == 8).all()

    def test_intersection_is_what_eq_9_and_10_name(self):
        residual, f_cnn = maps(2)
        both = dual_mask(residual, f_cnn)
        res = dual_mask(residual, f_cnn, mask_combine='res')
        act = dual_mask(residual, f_cnn, mask_combine='act')
        assert torch.equal(both, res & act)
        assert torch.equal(
            dual_mask(residual, f_cnn, mask_combine='or'), res | act
        )
        assert dual_mask(residual, f_cnn, mask_combine='none').all()

    def test_signed_mean_misses_negative_differences(self):
        """C11."""
        residual = torch.zeros(1, 2, 1, 1, 4)
        residual[..., 0], residual[..., 1] = 3.0, -3.0
        options = dict(mask_combine='res', zeta=0.5)
        l2 = dual_mask(residual, residual, **options).flatten()
        assert l2.tolist() == [True, True, False, False]
        signed = dual_mask(
            residual, residual, res_score='signed_mean', **options
        ).flatten()
        assert signed.tolist() == [True, False, False, False]

    @pytest.mark.parametrize('empty, kept', [('fallback_res', 2), ('skip', 0)])
    def test_masks_that_do_not_meet(self, empty, kept):
        residual = torch.zeros(1, 1, 1, 1, 4)
        residual[..., :2] = torch.tensor([1.0, 2.0])
        f_cnn = torch.zeros(1, 1, 1, 1, 4)
        f_cnn[..., 2:] = 1.0
        assert dual_mask(residual, f_cnn, empty=empty).sum() == kept

    def test_activation_scores_of_a_signed_map(self):
        """C12."""
        f_cnn = torch.tensor([-3.0, -1, 1, 2]).reshape(1, 1, 1, 1, 4)
        options = dict(mask_combine='act', rho=0.7)
        kept = {
            kind: int(
                dual_mask(f_cnn, f_cnn, act_score=kind, **options)
                .flatten()
                .nonzero()
            )
            for kind in ACT_SCORES
        }
        assert kept == dict(mean=3, mean_abs=0, mean_sq=0)

    @pytest.mark.parametrize(
        'q, correlation, empty',
        [
            (0.5, 0, 0.0),
            (0.5, -0.5, 0.002),
            (0.8, 0, 0.292),
            (0.8, -0.5, 0.78),
        ],
    )
    def test_how_often_the_masks_do_not_meet(self, q, correlation, empty):
        """C13, on a grid of 5 x 5."""
        torch.manual_seed(0)
        res, other = torch.randn(2, 20000, 1, 1, 5, 5)
        act = correlation * res + (1 - correlation**2) ** 0.5 * other
        mask = quantile_mask(res, q, 'sample') & quantile_mask(
            act, q, 'sample'
        )
        share = (~mask.flatten(1).any(1)).float().mean()
        assert float(share) == pytest.approx(empty, abs=0.012)
        if q == 0.8 and not correlation:  # 5 of 25 twice, by counting
            exact = math.comb(20, 5) / math.comb(25, 5)
            assert exact == pytest.approx(empty, abs=1e-3)

    def test_quantiles_that_sum_below_one_always_meet(self):
        res, act = maps(2, (200, 1, 1, 5, 5))
        mask = quantile_mask(res, 0.5, 'sample') & quantile_mask(
            act, 0.4, 'sample'
        )
        assert mask.flatten(1).any(1).all()

    def test_masks_do_not_commute_with_pooling(self):
        """C10: so they are built on the common grid."""
        (score,) = maps(1, (1, 1, 2, 4, 4))
        pool = nn.AvgPool3d((1, 2, 2))
        first = quantile_mask(pool(score), 0.5, 'sample')
        last = pool(quantile_mask(score, 0.5, 'sample').double())
        assert not torch.equal(first.double(), last)

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
    def test_half_precision(self, dtype):
        residual, f_cnn = (100 * x.to(dtype) for x in maps(2))
        for kind in ACT_SCORES:
            assert torch.isfinite(activation_score(f_cnn, kind)).all()
        assert torch.equal(
            dual_mask(residual, f_cnn),
            dual_mask(residual.float(), f_cnn.float()),
        )
        value = structure_discrepancy_loss(
            residual, -residual, dual_mask(residual, f_cnn), 'sum_per_sample'
        )
        assert value.dtype == torch.float32 and torch.isfinite(value)

    def test_the_functions_name_an_unknown_option(self):
        x, y = maps(2)
        mask = dual_mask(x, y)
        for call in (
            lambda: residual_score(x, 'no'),
            lambda: activation_score(x, 'no'),
            lambda: quantile_mask(x, 0.5, 'no'),
            lambda: dual_mask(x, y, mask_combine='no'),
            lambda: dual_mask(x, y, empty='no'),
            lambda: structure_discrepancy_loss(x, y, mask, 'no'),
        ):
            with pytest.raises(ValueError, match="'no'.*choose one of"):
                call()


# ---------------------------------------------------------------------------
# The class.


def test_teachers_masks_and_monitors_get_no_gradient():
    """C16."""
    predicted, f_vit, f_cnn = (x.requires_grad_() for x in maps(3))
    loss = StructureDiscrepancyLoss()
    loss(predicted, f_vit, f_cnn).backward()
    assert predicted.grad.abs().sum() > 0
    assert f_vit.grad is None and f_cnn.grad is None
    assert not any(value.requires_grad for value in loss.monitors.values())
    assert not any('loss' in name for name in loss.monitors)


@pytest.mark.parametrize('empty', EMPTY_POLICIES)
@pytest.mark.parametrize('grid', ['min', 'student', 'vit'])
def test_grids_and_widths_may_differ(grid, empty):
    predicted = torch.randn(2, 6, 8, 5, 5, requires_grad=True)
    loss = StructureDiscrepancyLoss(grid=grid, empty=empty)
    value = loss(
        predicted, torch.randn(2, 12, 4, 7, 7), torch.randn(2, 9, 8, 7, 7)
    )
    value.backward()
    assert torch.isfinite(value) and predicted.grad.abs().sum() > 0
    assert 0 < loss.monitors['mask_kept'] <= 1
    assert loss.monitors['residual_var'] > 0


def test_gradient_of_the_whole():
    """Grids that differ, a mask, a projection."""
    (predicted,) = maps(1, (2, 3, 2, 3, 3))
    (f_vit,) = maps(1, (2, 5, 1, 2, 3), seed=1)
    (f_cnn,) = maps(1, (2, 4, 2, 3, 2), seed=2)
    loss = StructureDiscrepancyLoss()
    predicted.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p: loss(p, f_vit, f_cnn), (predicted,)
    )


def test_reaches_the_backbone_through_the_branch():
    """C15: "detached at inference" is not a stop of the gradient."""
    backbone = nn.Conv3d(3, 16, 1)
    branch = StructureDiscrepancyBranch(16)
    student = backbone(torch.randn(2, 3, 2, 4, 4)).relu()
    loss = StructureDiscrepancyLoss()(
        branch(student), torch.randn(2, 12, 2, 4, 4), student.detach()
    )
    loss.backward()
    assert backbone.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('teacher', [1, 2])
def test_c9_scale_and_offset_of_a_teacher(teacher):
    """Standardised away, for the masks as for the target."""
    inputs = list(maps(3))
    loss = StructureDiscrepancyLoss()
    raw = StructureDiscrepancyLoss(feat_norm='none')
    before, raw_before = loss(*inputs), raw(*inputs)
    inputs[teacher] = 10 * inputs[teacher] + 3
    assert torch.allclose(loss(*inputs), before, rtol=1e-3)
    assert raw(*inputs) > 10 * raw_before


def test_order_of_positions_does_not_matter():
    order = torch.randperm(50)
    shuffled = [x.flatten(2)[..., order].reshape(SHAPE) for x in maps(3)]
    assert torch.allclose(
        StructureDiscrepancyLoss()(*shuffled),
        StructureDiscrepancyLoss()(*maps(3)),
        rtol=1e-12,
    )


@pytest.mark.parametrize('scope', QUANTILE_SCOPES)
def test_a_sample_does_not_see_its_batch(scope):
    predicted, f_vit, f_cnn = maps(3)
    f_vit = f_vit * torch.tensor([1.0, 3.0, 9.0]).view(3, 1, 1, 1, 1)
    loss = StructureDiscrepancyLoss(quantile_scope=scope, feat_norm='none')
    whole = loss(predicted, f_vit, f_cnn)
    parts = [
        loss(*(x[i : i + 1] for x in (predicted, f_vit, f_cnn)))
        for i in range(3)
    ]
    alike = torch.allclose(whole, sum(parts) / 3, rtol=1e-12)
    assert alike is (scope != 'batch')


def test_memory_format_does_not_matter():
    inputs = maps(3)
    strided = [
        x.contiguous(memory_format=torch.channels_last_3d) for x in inputs
    ]
    sliced = [
        torch.cat([x, x], dim=4)[..., :5].transpose(3, 4).transpose(3, 4)
        for x in inputs
    ]
    expected = StructureDiscrepancyLoss()(*inputs)
    for others in (strided, sliced):
        assert torch.allclose(
            StructureDiscrepancyLoss()(*others), expected, rtol=1e-12
        )


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    predicted = torch.randn(2, 6, 4, 5, 5).to(dtype).requires_grad_()
    f_vit = torch.randn(2, 12, 2, 7, 7).to(dtype)
    f_cnn = torch.randn(2, 9, 4, 7, 7).relu().to(dtype)
    loss = StructureDiscrepancyLoss()
    value = loss(predicted, f_vit, f_cnn)
    assert value.dtype == torch.float32
    assert torch.equal(
        value.detach(),
        loss(predicted.detach().float(), f_vit.float(), f_cnn.float()),
    )
    value.backward()
    assert torch.isfinite(predicted.grad).all()


@pytest.mark.parametrize('case', ['identical', 'zero', 'constant'])
def test_degenerate_teachers(case):
    predicted, f_vit, f_cnn = (x[:1] for x in maps(3))
    if case == 'identical':
        f_vit = f_cnn
    elif case == 'zero':
        f_vit = f_cnn = torch.zeros_like(f_cnn)
    else:
        f_vit, f_cnn = torch.ones_like(f_vit), 2 * torch.ones_like(f_cnn)
    predicted.requires_grad_()
    loss = StructureDiscrepancyLoss()
    value = loss(predicted, f_vit, f_cnn)
    value.backward()
    assert value > 0 and torch.isfinite(predicted.grad).all()
    assert float(loss.monitors['residual_var']) == 0


# ---------------------------------------------------------------------------
# Eq. 8: phi (C8).


def toy_run(phi, fixed_cnn=False, vit_of_cnn=None, steps=200):
    """Train branch and phi together: (variance, loss) at start and end."""
    torch.manual_seed(0)
    loss = StructureDiscrepancyLoss(
        phi=phi, channels=CHANNELS, num_classes=3, mask_combine='none'
    )
    width = loss.target_width(8)
    branch = nn.Conv3d(8, width, 1)
    if fixed_cnn:
        loss.projections.cnn.requires_grad_(False)
    optimizer = torch.optim.Adam(
        [*branch.parameters(), *loss.parameters()], lr=0.02
    )
    seen = []
    for _ in range(steps):
        student, f_vit, f_cnn = (
            torch.randn(4, c, 2, 3, 3) for c in (8, 12, 6)
        )
        if vit_of_cnn is not None:
            f_vit = vit_of_cnn(f_cnn)
        labels = torch.randint(3, (4,))
        value = loss(branch(student), f_vit, f_cnn, labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        seen.append((float(loss.monitors['residual_var']), float(value)))
    return loss, seen[0], seen[-1]


class TestC8Collapse:
    """A target that L_SD may train vanishes; the others do not.

    The student is unrelated to the teachers: an honest loss cannot fall much
    below the variance of its target.
    """

    def test_learnable(self):
        _, (variance, value), (variance_after, value_after) = toy_run(
            'learnable'
        )
        assert variance_after < 0.05 * variance
        assert value_after < 0.05 * value  # looks like success

    def test_collapse_is_said(self, logged):
        toy_run('learnable')
        assert logged().count('residual_var has fallen') == 1
        toy_run('probe')
        assert logged().count('residual_var has fallen') == 1

    def test_learnable_vit_alone_is_erased(self):
        """The rest of the target is the CNN's own map."""
        loss, (variance, _), (variance_after, _) = toy_run(
            'learnable', fixed_cnn=True
        )
        phi = loss.projections
        assert variance_after < 0.7 * variance
        f_vit, f_cnn = (
            torch.randn(64, 12, 1, 3, 3),
            torch.randn(64, 6, 1, 3, 3),
        )
        vit, cnn = (
            x.var(dim=(0, 2, 3, 4)).mean() for x in phi(f_vit, f_cnn, 8)
        )
        assert vit < 0.05 * cnn

    @pytest.mark.parametrize('phi', ['frozen_orthogonal', 'probe'])
    def test_frozen_and_probe(self, phi):
        _, (variance, _), (variance_after, value_after) = toy_run(phi)
        assert variance_after > 0.8 * variance
        assert value_after > 0.8 * variance_after

    def test_predictive_leaves_what_the_cnn_cannot_predict(self):
        """Nothing of an unrelated map, all of a linear one."""
        _, _, (variance, value) = toy_run('predictive')
        assert 0.8 < variance < 1.3 and value > 0.8
        torch.manual_seed(1)
        mix = torch.randn(6, 6)

        def vit_of_cnn(f_cnn):
            f_cnn = StructureDiscrepancyLoss().projections.normalise(
                f_cnn, 'cnn'
            )
            mixed = torch.einsum('oc,bcthw->bothw', mix, f_cnn)
            return torch.cat([mixed, -mixed], dim=1)

        _, (variance, _), (variance_after, _) = toy_run(
            'predictive', vit_of_cnn=vit_of_cnn
        )
        assert variance_after < 0.3 * variance

    def test_frozen_phi_has_no_parameter(self):
        loss = StructureDiscrepancyLoss()
        loss(*maps(3))
        assert not list(loss.parameters()) and not loss.state_dict()

    @pytest.mark.parametrize('phi', ['probe', 'predictive'])
    def test_a_guarded_phi_hears_only_its_own_loss(self, phi):
        torch.manual_seed(0)
        loss = StructureDiscrepancyLoss(
            phi=phi, channels=CHANNELS, num_classes=3
        )
        f_vit, f_cnn = torch.randn(4, 12, 2, 3, 3), torch.randn(4, 6, 2, 3, 3)
        labels = torch.tensor([0, 1, 2, 0])
        width = loss.target_width(8)
        gradients = []
        for scale in (0.0, 100.0):
            loss.zero_grad()
            predicted = torch.full((4, width, 2, 3, 3), scale)
            loss(predicted, f_vit, f_cnn, labels).backward()
            gradients.append([p.grad for p in loss.parameters()])
        for first, second in zip(*gradients):
            assert first.abs().sum() > 0 and torch.equal(first, second)

    def test_own_loss_is_added_and_weighted(self):
        torch.manual_seed(0)
        loss = StructureDiscrepancyLoss(
            loss_weight=3.0, phi='predictive', channels=CHANNELS
        )
        predicted = torch.randn(2, 12, 1, 3, 3)
        f_vit, f_cnn = torch.randn(2, 12, 1, 3, 3), torch.randn(2, 6, 1, 3, 3)
        value = loss(predicted, f_vit, f_cnn)
        vit, cnn = loss.projections(f_vit, f_cnn, 12)
        mask = dual_mask(vit - cnn, f_cnn)
        expected = 3 * (
            structure_discrepancy_loss(predicted, vit - cnn, mask)
            + (vit - cnn).square().mean()
        )
        assert torch.allclose(value, expected)


def test_which_options_need_the_widths():
    needs = StructureDiscrepancyLoss.needs_channels
    assert not needs() and not needs(loss_weight=2.0, phi='identity')
    assert needs(preset='paper_literal')
    assert needs(feat_norm='running_std')
    for phi in ('probe', 'predictive', 'learnable'):
        assert needs(phi=phi)


def test_width_of_the_target():
    for phi, width in (('learnable', 8), ('probe', 8), ('predictive', 12)):
        loss = StructureDiscrepancyLoss(
            phi=phi, channels=CHANNELS, num_classes=3
        )
        assert loss.target_width(8) == width
    assert StructureDiscrepancyLoss().target_width(8) == 8


class TestPresetsSideBySide:
    def test_what_differs(self):
        presets = StructureDiscrepancyLoss.PRESETS
        ours, paper = presets['corrected'], presets['paper_literal']
        assert {
            k: (ours[k], paper[k]) for k in ours if ours[k] != paper[k]
        } == {
            'res_score': ('l2', 'signed_mean'),
            'empty': ('fallback_res', 'skip'),
            'phi': ('frozen_orthogonal', 'learnable'),
            'feat_norm': ('layernorm_noaffine', 'none'),
            'reduction': ('masked_mean', 'sum_per_sample'),
        }

    def test_unit_error(self):
        """1 in every case, or 432 channels times the positions kept."""
        torch.manual_seed(0)
        f_vit, f_cnn = torch.randn(2, 1, 432, 8, 5, 5)[:, :, None].unbind()
        f_vit, f_cnn = f_vit[:, 0], f_cnn[:, 0]
        options = dict(phi='identity', feat_norm='none')
        predicted = f_vit - f_cnn + 1
        values = {}
        for preset in ('corrected', 'paper_literal'):
            loss = StructureDiscrepancyLoss(preset=preset, **options)
            values[preset] = float(loss(predicted, f_vit, f_cnn))
            kept = round(200 * float(loss.monitors['mask_kept']))
        assert values['corrected'] == pytest.approx(1.0, rel=1e-5)
        assert values['paper_literal'] == pytest.approx(432 * kept, rel=1e-5)
        assert values['paper_literal'] > 1e4


@pytest.mark.parametrize(
    'options, error, message',
    [
        (dict(zeta=1.5), ValueError, 'zeta=1.5.*between 0 and 1'),
        (dict(rho=-0.1), ValueError, 'rho=-0.1.*between 0 and 1'),
        (dict(phi='random'), ValueError, "phi='random'.*'learnable'"),
        (dict(quantile=0.5), TypeError, r"no option \['quantile'\]"),
        (dict(phi='probe'), ValueError, r"phi='probe'.*channels=dict"),
        (dict(preset='paper_literal'), ValueError, "phi='learnable'"),
        (dict(res_score='signed_mean'), ValueError, "0 at every.*'none'"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=message):
        StructureDiscrepancyLoss(**options)
