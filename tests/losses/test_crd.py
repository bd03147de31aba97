"""CRD: the NCE formula, the draw, the banks, one and two processes."""

import math

import pytest
import torch
import torch.nn.functional as F
from two_processes import results_of_ranks

from dtkd_mmaction.losses.crd import (
    UNSEEN,
    CRDLoss,
    crd_loss,
    draw_negatives,
)

SAMPLES = 30


def build(**options):
    torch.manual_seed(1)
    options = dict(
        dict(
            num_samples=SAMPLES,
            student_width=5,
            teacher_width=6,
            dim=4,
            negatives=8,
        ),
        **options,
    )
    return CRDLoss(**options)


def batch(size=4, seed=0):
    torch.manual_seed(seed)
    return dict(
        student_embedding=torch.randn(size, 5),
        teacher_embedding=torch.randn(size, 6),
        labels=torch.arange(size) % 3,
        sample_ids=torch.randperm(SAMPLES)[:size],
    )


# ---------------------------------------------------------------------------
# The formula.


def by_loops(positive, negatives, num_samples):
    total = 0.0
    for p, row in zip(positive.exp().tolist(), negatives.exp().tolist()):
        noise = len(row) / num_samples
        total -= math.log(p / (p + noise))
        total -= sum(math.log(noise / (q + noise)) for q in row)
    return total / len(positive)


def test_against_loops():
    torch.manual_seed(0)
    positive = torch.randn(5, dtype=torch.float64) - 3
    negatives = 2 * torch.randn(5, 7, dtype=torch.float64) - 3
    assert float(crd_loss(positive, negatives, 20)) == pytest.approx(
        by_loops(positive, negatives, 20), rel=1e-10
    )


@pytest.mark.parametrize('count, expected', [(4, 2.50201), (16384, 10.7)])
def test_vectors_of_the_notes(count, expected):
    """All P = 1 / n: ln(1 + M) + M ln(1 + 1 / M), whatever n."""
    for n in (10, 50000):
        chance = torch.full((2, count), -math.log(n), dtype=torch.float64)
        value = float(crd_loss(chance[:, 0], chance, n))
        assert value == pytest.approx(
            math.log(1 + count) + count * math.log(1 + 1 / count)
        )
        assert value == pytest.approx(
            expected, abs=1e-5 if count == 4 else 0.01
        )


def test_extreme_probabilities_stay_finite():
    """P of e ** 90 or e ** -90 has no place in float32."""
    positive = torch.tensor([-90.0, 90.0], requires_grad=True)
    negatives = torch.tensor([[90.0], [-90.0]], requires_grad=True)
    value = crd_loss(positive, negatives, 1)
    value.backward()
    assert value.item() == pytest.approx(90)
    assert torch.isfinite(positive.grad).all()
    assert torch.isfinite(negatives.grad).all()


# ---------------------------------------------------------------------------
# The draw.


def test_negatives_are_of_other_classes():
    torch.manual_seed(0)
    bank_labels = torch.arange(12) % 3
    bank_labels[9:] = UNSEEN
    ids, labels = torch.tensor([0, 4, 10]), torch.tensor([0, 1, 1])
    drawn = draw_negatives(bank_labels, ids, labels, 2000)
    assert drawn.shape == (3, 2000)
    for row, label, own in zip(drawn, labels, ids):
        # an unseen one counts as of another class, the anchor never does
        allowed = {
            j for j in range(12) if bank_labels[j] != label and j != own
        }
        assert set(row.tolist()) == allowed
        counts = row.bincount(minlength=12)[sorted(allowed)]
        expected = 2000 / len(allowed)
        assert ((counts - expected).abs() < 6 * expected**0.5).all()


def test_more_negatives_than_samples():
    """The case of HMDB51 with the authors' 16384 negatives."""
    value = build(negatives=100)(**batch())
    assert torch.isfinite(value)


def test_draw_is_seeded():
    values = []
    for seed in (0, 0, 1):
        loss, data = build(), batch()
        torch.manual_seed(seed)
        values.append(float(loss(**data).detach()))
    assert values[0] == values[1] != values[2]


def test_one_class_alone():
    with pytest.raises(ValueError, match='one class'):
        draw_negatives(
            torch.zeros(4).long(), torch.tensor([0]), torch.tensor([0]), 2
        )


# ---------------------------------------------------------------------------
# The class.


def test_whole_step_by_hand():
    loss, data = build(loss_weight=0.5), batch()
    banks = loss.student_bank.clone(), loss.teacher_bank.clone()
    torch.manual_seed(7)
    value = loss(**data)
    torch.manual_seed(7)
    unseen = torch.full((SAMPLES,), UNSEEN)
    ids = data['sample_ids']
    drawn = draw_negatives(unseen, ids, data['labels'], 8)
    anchors = [
        F.normalize(embed(data[f'{owner}_embedding']), dim=1).detach()
        for owner, embed in (
            ('student', loss.embed_student),
            ('teacher', loss.embed_teacher),
        )
    ]
    total = 0.0
    for k, (anchor, bank) in enumerate(zip(anchors, banks[::-1])):
        exps = [
            [
                math.exp(float(anchor[i] @ bank[j]) / 0.07)
                for j in [int(ids[i]), *drawn[i].tolist()]
            ]
            for i in range(4)
        ]
        z = SAMPLES * sum(map(sum, exps)) / (4 * 9)
        assert float(loss.log_z[k]) == pytest.approx(math.log(z), rel=1e-5)
        log_p = torch.tensor(exps, dtype=torch.float64).log() - math.log(z)
        total += by_loops(log_p[:, 0], log_p[:, 1:], SAMPLES)
    assert value.item() == pytest.approx(0.5 * total, rel=1e-4)
    # the update comes after the loss
    for bank, old, rows in zip(
        (loss.student_bank, loss.teacher_bank), banks, anchors
    ):
        expected = old.clone()
        for i, j in enumerate(ids):
            new = 0.5 * old[j] + 0.5 * rows[i]
            expected[j] = new / new.norm()
        assert torch.allclose(bank, expected, atol=1e-6)
        assert not bank.requires_grad
    expected = unseen.clone()
    expected[ids] = data['labels']
    assert torch.equal(loss.bank_labels, expected)


def test_z_is_set_once():
    loss = build()
    assert loss.log_z.isnan().all()
    loss(**batch())
    first = loss.log_z.clone()
    loss(**batch(seed=1))
    assert torch.equal(loss.log_z, first) and torch.isfinite(first).all()


def test_value_at_chance():
    """Widely drawn, about 2 * (ln(1 + M) + 1): a strong weight."""
    torch.manual_seed(0)
    loss = CRDLoss(
        loss_weight=1.0,
        num_samples=2000,
        student_width=32,
        teacher_width=32,
        negatives=500,
    )
    value = loss(
        torch.randn(64, 32),
        torch.randn(64, 32),
        torch.arange(64) % 10,
        torch.arange(64),
    )
    assert value.item() == pytest.approx(2 * (math.log(501) + 1), rel=0.15)


@pytest.mark.parametrize('momentum', [0.0, 0.5, 1.0])
def test_momentum_is_the_share_of_the_old(momentum):
    loss, data = build(momentum=momentum), batch()
    old = loss.teacher_bank[data['sample_ids']].clone()
    new = loss.embed_teacher(data['teacher_embedding']).detach()
    loss(**data)
    blend = momentum * old + (1 - momentum) * F.normalize(new, dim=1)
    assert torch.allclose(
        loss.teacher_bank[data['sample_ids']],
        F.normalize(blend, dim=1),
        atol=1e-6,
    )


def test_first_of_repeated_samples_counts():
    data = batch()
    data['sample_ids'] = torch.tensor([3, 7, 3, 3])
    data['labels'] = torch.tensor([1, 2, 0, 0])
    loss, alone = build(), build()
    loss(**data)
    alone(**{name: value[:2] for name, value in data.items()})
    assert torch.allclose(loss.teacher_bank, alone.teacher_bank)
    assert loss.bank_labels[[3, 7]].tolist() == [1, 2]


def test_resumed_training_goes_on_as_before():
    loss = build()
    loss(**batch())
    resumed = build()
    resumed.load_state_dict(loss.state_dict())
    for copy in (loss, resumed):
        torch.manual_seed(3)
        copy.value = copy(**batch(seed=2))
    assert torch.equal(loss.value, resumed.value)
    assert torch.equal(loss.student_bank, resumed.student_bank)
    assert torch.equal(loss.bank_labels, resumed.bank_labels)


def test_learning_the_pairs():
    """Embeddings of the same clip find each other."""
    loss = build(loss_weight=1.0)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.05)
    torch.manual_seed(0)
    student = torch.randn(SAMPLES, 5)
    teacher = torch.randn(5, 6)
    teacher = student @ teacher
    values = []
    for _ in range(60):
        for ids in torch.randperm(SAMPLES).chunk(3):
            optimizer.zero_grad()
            value = loss(student[ids], teacher[ids], ids % 6, ids)
            value.backward()
            optimizer.step()
        values.append(value.item())
    assert sum(values[-10:]) < 0.8 * sum(values[:10])


@pytest.mark.parametrize('wrong', [SAMPLES, SAMPLES + 5, -1])
def test_sample_id_without_an_entry(wrong):
    loss, data = build(), batch()
    data['sample_ids'][1] = wrong
    with pytest.raises(
        ValueError, match=rf'num_samples={SAMPLES}.* {wrong}\. Set num_samples'
    ):
        loss(**data)


@pytest.mark.parametrize('option', [dict(num_samples=1), dict(negatives=0)])
def test_too_few(option):
    with pytest.raises(ValueError, match='an integer >='):
        build(**option)


def test_gradient_only_to_the_student():
    loss, data = build(), batch()
    for name in ('student_embedding', 'teacher_embedding'):
        data[name].requires_grad_()
    loss(**data).backward()
    assert data['student_embedding'].grad.abs().sum() > 0
    assert data['teacher_embedding'].grad is None
    # both embeddings are trained
    assert all(p.grad.abs().sum() > 0 for p in loss.parameters())


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    loss, data = build(), batch()
    for name in ('student_embedding', 'teacher_embedding'):
        data[name] = data[name].to(dtype)
    value = loss(**data)
    assert value.dtype == torch.float32 and torch.isfinite(value)
    assert loss.student_bank.dtype == torch.float32


# ---------------------------------------------------------------------------
# Two processes.


def buffers_after_three_steps(rank):
    loss = build()
    for step in range(3):
        data = batch(6, seed=step)
        part = slice(3 * rank, 3 * rank + 3)
        torch.manual_seed(10 * step + rank)
        loss(**{name: value[part] for name, value in data.items()})
    return dict(loss.named_buffers())


def z_of_one_rank(rank):
    """Z of this rank's first batch, had it been alone."""
    loss, data = build(), batch(6)
    part = slice(3 * rank, 3 * rank + 3)
    torch.manual_seed(rank)
    loss(**{name: value[part] for name, value in data.items()})
    return loss.log_z.exp()


def test_two_processes_keep_one_bank_and_one_z(tmp_path):
    ranks = results_of_ranks(buffers_after_three_steps, tmp_path)
    assert len(ranks[0]) == 4
    for name, buffer in ranks[0].items():
        assert torch.equal(buffer, ranks[1][name]), name
    # the banks are those of one process on the joined batches
    loss = build()
    for step in range(3):
        loss(**batch(6, seed=step))
    for name in ('student_bank', 'teacher_bank', 'bank_labels'):
        assert torch.allclose(getattr(loss, name), ranks[0][name]), name
    mean = (z_of_one_rank(0) + z_of_one_rank(1)) / 2
    assert torch.allclose(ranks[0]['log_z'].exp(), mean)
