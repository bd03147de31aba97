"""Two students, each learning from the other."""

import copy

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from tiny_models import FRAMES, SIZE, batch, tiny_mvit, tiny_x3d

from dtkd_mmaction.deployment.student_export import (
    PARTS,
    student_checkpoint,
    student_config,
)
from dtkd_mmaction.recognizers.model_spec import build_recognizer

VIEW = dict(frames=FRAMES, size=SIZE)


def build(**overrides):
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            dict(
                type='MutualLearningDistiller',
                student=dict(cfg=tiny_x3d(), view=VIEW),
                peer=dict(cfg=tiny_mvit(), view=VIEW),
            ),
            **overrides,
        )
    )


def losses_of(distiller):
    data = distiller.data_preprocessor(batch(), training=True)
    return distiller(**data, mode='loss')


def test_both_have_their_label_loss_and_their_divergence():
    losses = losses_of(build())
    assert {k for k in losses if 'loss' in k} == {
        'loss_cls',
        'loss_dml',
        'peer/loss_cls',
        'peer/loss_dml',
    }


def test_equal_peers_do_not_diverge():
    distiller = build(peer=dict(cfg=tiny_x3d(), view=VIEW))
    distiller.peer = copy.deepcopy(distiller.student)
    distiller.peer_tap.recognizer = distiller.peer
    losses = losses_of(distiller)
    assert losses['loss_dml'] == losses['peer/loss_dml'] == 0


@pytest.mark.parametrize(
    'term, moved, still',
    [
        ('loss_dml', 'student', 'peer'),
        ('peer/loss_dml', 'peer', 'student'),
    ],
)
def test_the_partner_is_a_constant(term, moved, still):
    distiller = build()
    losses_of(distiller)[term].backward()

    def gradients(model):
        return [
            p.grad.abs().sum()
            for p in model.parameters()
            if p.grad is not None
        ]

    assert sum(gradients(getattr(distiller, moved))) > 0
    assert not gradients(getattr(distiller, still))


def test_divergence_against_the_definition():
    distiller = build(tau=2.0, loss_weight=3.0).eval()
    recorded = []
    for model in (distiller.student, distiller.peer):
        model.cls_head.register_forward_hook(
            lambda *args: recorded.append((args[2] / 2).softmax(dim=1))
        )
    losses = losses_of(distiller)
    own, other = recorded
    expected = (other * (other / own).log()).sum(dim=1).mean() * 3
    assert torch.allclose(losses['loss_dml'], expected, atol=1e-6)


def test_one_optimizer_trains_both():
    distiller = build()
    before = copy.deepcopy(distiller.state_dict())
    optimizer = OptimWrapper(torch.optim.SGD(distiller.parameters(), lr=0.1))
    distiller.train_step(batch(), optimizer)
    for part in ('student.', 'peer.'):
        assert any(
            not torch.equal(value, before[name])
            for name, value in distiller.state_dict().items()
            if name.startswith(part)
        )


def test_classes_must_agree():
    other = tiny_mvit()
    other['cls_head']['num_classes'] = 9
    with pytest.raises(ValueError, match='model.peer has 9 classes'):
        build(peer=dict(cfg=other, view=VIEW))


def test_either_can_be_exported():
    cfg = dict(
        type='MutualLearningDistiller',
        student=dict(cfg=tiny_x3d(), view=VIEW),
        peer=dict(cfg=tiny_mvit(), view=VIEW),
    )
    state_dict = build().state_dict()
    for part in PARTS:
        config = student_config(Config(dict(model=cfg)), part)
        model = build_recognizer(config, 'model')
        exported = student_checkpoint(dict(state_dict=state_dict), part)
        model.load_state_dict(exported['state_dict'], strict=True)
