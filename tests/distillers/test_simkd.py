"""SimKD: the student that keeps its teacher's classifier."""

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from tiny_models import (
    FRAMES,
    NUM_CLASSES,
    SIZE,
    batch,
    tiny_mvit,
    tiny_tsn,
    tiny_x3d,
)

from dtkd_mmaction.deployment.student_export import (
    student_checkpoint,
    student_config,
)
from dtkd_mmaction.losses.simkd import simkd_loss
from dtkd_mmaction.modules.head_input import (
    head_input_form,
    head_input_to_map,
    map_to_head_input,
)
from dtkd_mmaction.recognizers.model_spec import build_recognizer

VIEW = dict(frames=FRAMES, size=SIZE)


def tiny_simkd(student=None, teacher=None):
    return dict(
        type='SimKDDistiller',
        student=dict(cfg=student or tiny_x3d(), view=VIEW),
        teacher=dict(cfg=teacher or tiny_mvit(), checkpoint=None, view=VIEW),
    )


def build(*models):
    torch.manual_seed(0)
    return MODELS.build(tiny_simkd(*models))


def step(distiller):
    return distiller.train_step(
        batch(), OptimWrapper(torch.optim.SGD(distiller.parameters(), lr=0.1))
    )


@pytest.mark.parametrize('student', [tiny_x3d, tiny_mvit, tiny_tsn])
@pytest.mark.parametrize('teacher', [tiny_x3d, tiny_mvit, tiny_tsn])
def test_any_pair(student, teacher):
    distiller = build(student(), teacher())
    logs = step(distiller)
    assert set(logs) == {'loss', 'loss_simkd'} and logs['loss'] > 0
    data = batch(pixels=SIZE)
    if student is tiny_tsn:  # as a 2-D pipeline packs its clips
        data['inputs'] = [x[0].transpose(0, 1) for x in data['inputs']]
    predicted = distiller.test_step(data)
    assert predicted[0].pred_score.shape == (NUM_CLASSES,)


def tiny_movinet():
    cfg = tiny_x3d()
    cfg['backbone'] = dict(type='MoViNet', arch='a0')
    cfg['cls_head'] = dict(
        type='MoViNetHead', in_channels=480, num_classes=NUM_CLASSES
    )
    return cfg


@pytest.mark.parametrize(
    'teacher, signed',
    [(tiny_x3d, False), (tiny_tsn, False)]
    + [(tiny_mvit, True), (tiny_movinet, True)],
)
def test_the_sign_of_the_features_is_read_off_the_layers(teacher, signed):
    """MoViNet ends in a hard swish, whose sign a black clip hides."""
    projector = build(tiny_x3d(), teacher()).student.cls_head.projector
    last = [m for m in projector.modules() if not list(m.children())][-1]
    assert isinstance(last, torch.nn.Conv3d if signed else torch.nn.ReLU)


@pytest.mark.parametrize('teacher', [tiny_x3d, tiny_mvit, tiny_tsn])
def test_a_perfect_projector_is_as_good_as_the_teacher(teacher):
    """The notes' self-check: proj output = F_t gives the teacher's logits."""
    distiller = build(tiny_x3d(), teacher())
    distiller.init_weights()
    frozen = distiller.teachers['teacher']
    clips = torch.stack(batch(pixels=SIZE)['inputs'])
    taught = frozen(clips)
    head = distiller.student.cls_head
    target = head_input_to_map(taught.head_input, FRAMES)
    head.projector = torch.nn.Identity()
    assert torch.allclose(head(target), taught.logits, atol=1e-6)


def test_only_the_projector_and_the_backbone_learn():
    distiller = build()
    distiller.init_weights()
    before = {k: v.clone() for k, v in distiller.state_dict().items()}
    distiller.train()
    assert not distiller.student.cls_head.classifier.training
    step(distiller)
    changed = {
        name
        for name, value in distiller.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert any('student.backbone' in name for name in changed)
    assert any('projector' in name for name in changed)
    assert not any('classifier' in name for name in changed)


def test_signed_features_have_no_relu_at_the_end():
    for teacher, last in ((tiny_mvit(), 'Conv3d'), (tiny_x3d(), 'ReLU')):
        projector = build(tiny_x3d(), teacher).student.cls_head.projector
        assert type(projector[-1]).__name__ == last


def test_the_export_keeps_projector_and_classifier():
    distiller = build()
    config = student_config(Config(dict(model=tiny_simkd())))
    assert config.custom_imports.imports == ['dtkd_mmaction']
    student = build_recognizer(config, 'model')
    exported = student_checkpoint(
        dict(state_dict=distiller.state_dict(), meta={})
    )
    student.load_state_dict(exported['state_dict'], strict=True)
    data = batch(pixels=SIZE)
    scores = [
        torch.stack([s.pred_score for s in model.eval().test_step(data)])
        for model in (student, distiller.student)
    ]
    assert torch.equal(*scores)


def test_says_what_it_costs(logged):
    distiller = build()
    head = distiller.student.cls_head
    count = sum(p.numel() for p in head.projector.parameters())
    assert f'a projector of {count} parameters' in logged()


class TestHeadInput:
    @pytest.mark.parametrize(
        'head_input, form, widths',
        [
            (torch.rand(2, 3, 4, 2, 2), 'map', [3]),
            (torch.rand(2, 3), 'vector', [3]),
            (torch.rand(8, 3, 2, 2), 'frames', [3]),
            (
                (torch.rand(2, 3, 2, 2, 2), torch.rand(2, 5, 4, 2, 2)),
                'pathways',
                [3, 5],
            ),
            (
                [[torch.rand(2, 3, 4, 2, 2), torch.rand(2, 3)]],
                'class_token',
                [3],
            ),
        ],
    )
    def test_there_and_back(self, head_input, form, widths):
        assert head_input_form(head_input) == (form, widths)
        feature_map = head_input_to_map(head_input, num_segs=4)
        assert feature_map.ndim == 5
        assert feature_map.shape[:2] == (2, sum(widths))
        back = map_to_head_input(feature_map, form, widths)
        assert head_input_form(back) == (form, widths)

    def test_unknown_form(self):
        with pytest.raises(ValueError, match='none of'):
            head_input_form(torch.rand(2, 3, 4))

    def test_frames_that_a_head_insists_on(self):
        back = map_to_head_input(torch.rand(2, 3, 2, 1, 1), 'frames', [3], 8)
        assert back.shape == (16, 3, 1, 1)


def test_loss_is_the_mean_square_on_the_smaller_grid():
    projected, target = torch.rand(2, 3, 4, 2, 2), torch.rand(2, 3, 1, 1, 1)
    expected = (projected.mean(dim=(2, 3, 4)) - target.flatten(1)) ** 2
    assert torch.allclose(simkd_loss(projected, target), expected.mean())
