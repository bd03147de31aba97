"""CAKD: crossed attention, group-wise projections, who trains whom."""

import math

import pytest
import torch
import torch.nn.functional as F

from dtkd_mmaction.losses.cakd import (
    VALUE_RELATIONS,
    CAKDLoss,
    GroupwiseLinear,
    adversarial_loss,
    as_tokens,
    attention,
    discriminator_loss,
    partially_crossed,
    proj1_loss,
    value_relation,
)

STUDENT, TEACHER = (4, 4, 5, 5), (6, 2, 7, 7)


def qkv(batch=2, tokens=5, width=3, seed=0):
    torch.manual_seed(seed)
    return torch.randn(2, 3, batch, tokens, width, dtype=torch.float64)


def maps(student=STUDENT, teacher=TEACHER, size=2):
    torch.manual_seed(0)
    return torch.randn(size, *student), torch.randn(size, *teacher)


def build(student=STUDENT, teacher=TEACHER, **options):
    torch.manual_seed(1)
    return CAKDLoss(
        student_shape=student,
        teacher_shape=teacher,
        discriminator_width=8,
        **options,
    )


# ---------------------------------------------------------------------------
# The PCA projector.


def attention_by_loops(query, key, value):
    rows = []
    for q in query.tolist():
        scores = [
            sum(a * b for a, b in zip(q, k)) / math.sqrt(len(q))
            for k in key.tolist()
        ]
        exps = [math.exp(s) for s in scores]
        rows.append(
            [
                sum(e * v for e, v in zip(exps, column)) / sum(exps)
                for column in value.t().tolist()
            ]
        )
    return rows


def proj1_by_loops(student, teacher, value_rel):
    """No element replaced."""
    attended, related = [], []
    for b in range(student.shape[1]):
        pairs = zip(
            attention_by_loops(*student[:, b]),
            attention_by_loops(*teacher[:, b]),
        )
        attended += [
            (x - y) ** 2 for row in pairs for x, y in zip(row[0], row[1])
        ]
        s, t = student[2, b].tolist(), teacher[2, b].tolist()
        root = math.sqrt(len(s[0]))
        if value_rel == 'square':
            related += [
                (x * x / root - y * y / root) ** 2
                for p, q in zip(s, t)
                for x, y in zip(p, q)
            ]
        else:
            related += [
                (
                    sum(x * y for x, y in zip(s[i], s[j])) / root
                    - sum(x * y for x, y in zip(t[i], t[j])) / root
                )
                ** 2
                for i in range(len(s))
                for j in range(len(s))
            ]
    return sum(attended) / len(attended) + sum(related) / len(related)


@pytest.mark.parametrize('value_rel', VALUE_RELATIONS)
def test_proj1_against_loops(value_rel):
    student, teacher = qkv()
    value = float(proj1_loss(student, teacher, 0.0, value_rel))
    expected = proj1_by_loops(student, teacher, value_rel)
    assert value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize('value_rel', VALUE_RELATIONS)
@pytest.mark.parametrize('probability', [0.0, 0.5, 1.0])
def test_equal_tokens_cost_nothing(value_rel, probability):
    """With every mask."""
    teacher = qkv()[0]
    for _ in range(5):
        assert proj1_loss(teacher, teacher, probability, value_rel) == 0


def test_teacher_everywhere_teaches_no_attention():
    """The first term is 0 then; the values' relation remains."""
    student, teacher = qkv()
    student.requires_grad_()
    value = proj1_loss(student, teacher, 1.0)
    relations = [value_relation(x[2], 'square') for x in (student, teacher)]
    assert torch.equal(value, F.mse_loss(*relations))
    value.backward()
    assert (student.grad[:2] == 0).all()
    assert student.grad[2].abs().sum() > 0


def test_elements_are_replaced_one_by_one():
    torch.manual_seed(0)
    student = torch.zeros(4, 50, 100, requires_grad=True)
    teacher = torch.ones(4, 50, 100)
    crossed = partially_crossed(student, teacher, 0.5)
    crossed.sum().backward()
    assert torch.equal(student.grad, 1 - crossed)  # none where replaced
    for share in (crossed.mean(), crossed[:, 0].mean(), crossed[0, 0].mean()):
        assert 0.3 < share < 0.7
    rarely = partially_crossed(student, teacher, 0.2).mean().item()
    assert rarely == pytest.approx(0.2, abs=0.02)


def test_queries_keys_and_values_have_masks_of_their_own():
    """With one mask for all, zeros and ones would be in the same places."""
    masks = []

    def crossed_attention(*crossed):
        masks.extend(crossed)
        return crossed[2]

    student, teacher = torch.zeros(3, 1, 8, 8), torch.ones(3, 1, 8, 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('dtkd_mmaction.losses.cakd.attention', crossed_attention)
        proj1_loss(student, teacher, 0.5)
    assert not torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_attention_is_of_the_tokens():
    """A query that fits one key gets its value."""
    key = 100 * torch.eye(3)[None]
    value = torch.randn(1, 3, 3)
    found = attention(key[:, [2, 0]], key, value)
    assert torch.allclose(found, value[:, [2, 0]])


def test_gram_is_a_matter_of_hundreds():
    """Why 'square' is the default: tokens as after a LayerNorm."""
    torch.manual_seed(0)
    values = torch.randn(1, 1, 768) + torch.randn(1, 50, 768)
    values = F.layer_norm(values, (768,))
    assert value_relation(values, 'gram').square().mean() > 100
    assert value_relation(values, 'square').square().mean() < 0.1


# ---------------------------------------------------------------------------
# The GL projector.


@pytest.mark.parametrize(
    'grid, neighbourhood, groups',
    [
        ((1, 14, 14), (1, 4, 4), 16),
        ((8, 7, 7), (1, 4, 4), 32),
        ((8, 7, 7), (2, 4, 4), 16),
        ((3, 1, 1), (1, 4, 4), 3),
        ((4, 5, 7), (1, 1, 1), 140),
    ],
)
def test_groups_of_the_notes(grid, neighbourhood, groups):
    assert GroupwiseLinear(2, 3, grid, neighbourhood, 0).groups == groups


def test_neighbours_share_a_matrix():
    """Contiguous blocks, not every fourth position; against loops."""
    torch.manual_seed(0)
    projector = GroupwiseLinear(2, 3, (3, 5, 7), (2, 4, 4), 0)
    feature_map = torch.randn(2, 2, 3, 5, 7)
    projected = projector(feature_map)
    assert projected.shape == (2, 3, 3, 5, 7)
    weight = projector.linear.weight.reshape(8, 3, 2)
    bias = projector.linear.bias.reshape(8, 3)
    for t in range(3):
        for h in range(5):
            for w in range(7):
                group = (t // 2 * 2 + h // 4) * 2 + w // 4
                expected = feature_map[:, :, t, h, w] @ weight[group].t()
                assert torch.allclose(
                    projected[:, :, t, h, w], expected + bias[group]
                )


def test_dropout_zeroes_inputs_only():
    torch.manual_seed(0)
    projector = GroupwiseLinear(4, 3, (1, 4, 4), (1, 4, 4), 0.5)
    ones = torch.ones(1, 4, 1, 4, 4)
    assert projector(ones).unique().numel() > 3
    assert (projector(ones) != 0).all()
    assert projector.eval()(ones).unique().numel() == 3


# ---------------------------------------------------------------------------
# The adversarial terms.


def test_vectors_of_the_notes():
    """D is undecided."""
    scores = torch.zeros(2, 3, 1)
    assert float(discriminator_loss(scores, scores)) == pytest.approx(
        2 * math.log(2)
    )
    assert float(adversarial_loss(scores)) == pytest.approx(-0.693147)


def test_adversarial_terms_against_loops():
    torch.manual_seed(0)
    teacher, student = torch.randn(2, 6)

    def sigmoid(score):
        return 1 / (1 + math.exp(-score))

    mad = -sum(math.log(sigmoid(s)) for s in teacher.tolist()) / 6
    mvg = sum(math.log(1 - sigmoid(s)) for s in student.tolist()) / 6
    assert float(discriminator_loss(teacher, student)) == pytest.approx(
        mad - mvg, rel=1e-5
    )
    assert float(adversarial_loss(student)) == pytest.approx(mvg, rel=1e-5)


def test_signs():
    """D raises the teacher's score and lowers the student's, who raises it."""
    teacher, student = (torch.zeros(3, requires_grad=True) for _ in range(2))
    discriminator_loss(teacher, student).backward()
    assert (teacher.grad < 0).all() and (student.grad > 0).all()
    student.grad = None
    adversarial_loss(student).backward()
    assert (student.grad < 0).all()


def test_sure_discriminator_stays_finite():
    scores = torch.tensor([-200.0, 200.0], requires_grad=True)
    total = discriminator_loss(scores, scores) + adversarial_loss(scores)
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(scores.grad).all()


# ---------------------------------------------------------------------------
# The class.


def test_each_side_trains_its_own():
    """One backward, as if there were two optimizers."""
    student, teacher = maps()
    student.requires_grad_()
    loss = build(dropout=0.0)
    loss.pca_weight = loss.gl_weight = 0.0
    loss(student, teacher).backward()
    in_one = {
        name: parameter.grad.clone()
        for name, parameter in loss.named_parameters()
    }
    gradient = student.grad.clone()

    student.grad = None
    tokens = as_tokens(
        loss.gl_projector(F.adaptive_avg_pool3d(student, loss.grid))
    )
    target = as_tokens(F.adaptive_avg_pool3d(teacher, loss.grid))
    mad = discriminator_loss(
        loss.discriminator(target), loss.discriminator(tokens)
    )
    mvg = 0.1 * adversarial_loss(loss.discriminator(tokens))
    names, parameters = zip(*loss.named_parameters())
    for name, of_mad, of_mvg in zip(
        names,
        torch.autograd.grad(
            mad, parameters, retain_graph=True, allow_unused=True
        ),
        torch.autograd.grad(
            mvg, parameters, retain_graph=True, allow_unused=True
        ),
    ):
        if name.startswith('discriminator'):
            assert torch.allclose(in_one[name], of_mad, atol=1e-6), name
        elif name.startswith('gl_projector'):
            assert torch.allclose(in_one[name], of_mvg, atol=1e-6), name
    expected = torch.autograd.grad(mvg, student)[0]
    assert torch.allclose(gradient, expected, atol=1e-7)


def test_class_sums_its_terms():
    loss = build(
        loss_weight=3.0, pca_weight=2.0, gl_weight=5.0, adversarial_weight=0.7
    )
    value = loss(*maps())
    terms = loss.monitors
    assert set(terms) == {'proj1', 'proj2', 'mad', 'mvg'}
    assert not any('loss' in name for name in terms)
    assert not any(term.requires_grad for term in terms.values())
    expected = 3 * (
        2 * terms['proj1']
        + 5 * terms['proj2']
        + terms['mad']
        + 0.7 * terms['mvg']
    )
    assert torch.allclose(value, expected)


@pytest.mark.parametrize('value_rel', VALUE_RELATIONS)
def test_monitors_by_hand(value_rel):
    loss = build(value_rel=value_rel, replace_probability=0.0, dropout=0.0)
    student, teacher = maps()
    loss(student, teacher)
    assert loss.grid == (2, 5, 5)
    student, teacher = (
        F.adaptive_avg_pool3d(x, (2, 5, 5)) for x in (student, teacher)
    )
    tokens = as_tokens(teacher)
    assert torch.equal(tokens[:, 7], teacher[:, :, 0, 1, 2])
    normalised = F.layer_norm(tokens, (6,))
    learnt = as_tokens(loss.student_qkv(student)).split(6, dim=-1)
    expected = proj1_loss(
        learnt, [normalised @ m for m in loss.teacher_qkv], 0.0, value_rel
    )
    assert torch.allclose(loss.monitors['proj1'], expected)
    projected = as_tokens(loss.gl_projector(student))
    assert torch.allclose(
        loss.monitors['proj2'], (projected - tokens).square().mean()
    )


def test_teacher_projections_are_fixed():
    loss, same, other = build(), build(), build(seed=7)
    assert torch.equal(loss.teacher_qkv, same.teacher_qkv)
    assert not torch.equal(loss.teacher_qkv, other.teacher_qkv)
    for matrix in loss.teacher_qkv:
        assert torch.allclose(matrix @ matrix.t(), torch.eye(6), atol=1e-5)
    assert not torch.equal(loss.teacher_qkv[0], loss.teacher_qkv[1])
    assert 'teacher_qkv' not in dict(loss.named_parameters())
    assert 'teacher_qkv' not in loss.state_dict()


def test_scale_of_the_teacher_does_not_saturate_its_attention():
    student, teacher = maps()
    loss = build(replace_probability=0.0, dropout=0.0)
    loss(student, teacher)
    proj1 = loss.monitors['proj1']
    loss(student, 1000 * teacher)
    assert torch.allclose(loss.monitors['proj1'], proj1, rtol=1e-3)


@pytest.mark.parametrize(
    'student, teacher',
    [
        ((4, 2, 1, 1), (6, 2, 1, 1)),
        ((4, 1, 4, 4), (6, 1, 4, 4)),
        ((6, 2, 9, 9), (3, 4, 5, 5)),
    ],
)
def test_other_grids(student, teacher):
    assert torch.isfinite(build(student, teacher)(*maps(student, teacher)))


def test_other_grids_than_announced():
    value = build()(*maps((4, 4, 6, 5), (6, 2, 6, 6)))
    assert torch.isfinite(value)


def test_gradient_only_to_the_student():
    student, teacher = (x.requires_grad_() for x in maps())
    loss = build()
    loss(student, teacher).backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None
    assert all(p.grad is not None for p in loss.parameters())


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    value = build()(*(x.to(dtype) for x in maps()))
    assert value.dtype == torch.float32 and torch.isfinite(value)


def test_bad_options():
    with pytest.raises(ValueError, match="value_rel='cube'.*'gram', 'square'"):
        build(value_rel='cube')
    with pytest.raises(ValueError, match="value_rel='cube'.*'gram', 'square'"):
        value_relation(torch.zeros(1, 2, 2), 'cube')
    with pytest.raises(ValueError, match='replace_probability=1.5'):
        build(replace_probability=1.5)
