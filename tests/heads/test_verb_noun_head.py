import copy

import pytest
import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.optim import OptimWrapper
from mmengine.runner.checkpoint import load_state_dict
from tiny_models import batch, tiny_mvit, tiny_tsn, tiny_x3d

from dtkd_mmaction.heads import VerbNounHead

COUNTS = (5, 7)
LABELS = [(1, 6), (4, 0)]


def with_verbs_and_nouns(model, **options):
    stock_head = dict(model['cls_head'], **options)
    stock_head.pop('num_classes')
    return dict(
        model,
        cls_head=dict(
            type='VerbNounHead', head=stock_head, num_classes=COUNTS
        ),
    )


def samples_of(labels=LABELS):
    return [ActionDataSample().set_gt_label(list(label)) for label in labels]


def x3d_head(**options):
    head = dict(type='X3DHead', in_channels=6, dropout_ratio=0, **options)
    return VerbNounHead(head, num_classes=COUNTS)


def batch_of(model):
    data = dict(batch(frames=4, pixels=32), data_samples=samples_of())
    if model['type'] == 'Recognizer2D':
        # (1, 3, T, H, W) to (T, 3, H, W)
        data['inputs'] = [x[0].transpose(0, 1) for x in data['inputs']]
    return data


def test_what_others_read():
    head = VerbNounHead(dict(type='X3DHead', in_channels=432), (97, 300))
    assert head.num_classes == 397
    assert head.in_channels == 432
    assert head.class_counts == dict(verb=97, noun=300)
    assert head(torch.randn(2, 432, 2, 3, 3)).shape == (2, 397)


def test_each_part_has_its_cross_entropy():
    head, x = x3d_head(), torch.randn(2, 6, 2, 3, 3)
    logits = head(x)
    losses = head.loss(x, samples_of())
    verbs, nouns = torch.tensor(LABELS).T
    assert torch.allclose(
        losses['loss_verb'], F.cross_entropy(logits[:, :5], verbs)
    )
    assert torch.allclose(
        losses['loss_noun'], F.cross_entropy(logits[:, 5:], nouns)
    )
    assert set(losses) == {'loss_verb', 'loss_noun', 'top1_verb', 'top1_noun'}


def test_accuracies():
    logits = torch.zeros(2, 12)
    logits[0, 1] = logits[1, 2] = 1  # verbs: right, wrong
    logits[0, 5 + 6] = logits[1, 5 + 0] = 1  # nouns: both right
    losses = x3d_head().loss_by_feat(logits, samples_of())
    assert float(losses['top1_verb']) == 0.5
    assert float(losses['top1_noun']) == 1


def test_options_of_the_stock_head_hold_for_both_parts():
    head = x3d_head(
        label_smooth_eps=0.1,
        loss_cls=dict(type='CrossEntropyLoss', loss_weight=2.0),
    )
    logits = torch.randn(2, 12)
    losses = head.loss_by_feat(logits, samples_of())
    verbs, nouns = torch.tensor(LABELS).T
    for part, scores, target in (
        ('verb', logits[:, :5], verbs),
        ('noun', logits[:, 5:], nouns),
    ):
        expected = 2 * F.cross_entropy(scores, target, label_smoothing=0.1)
        assert torch.allclose(losses[f'loss_{part}'], expected)


@pytest.mark.parametrize('average', ['prob', 'score', None])
def test_clips_are_averaged_as_in_stock_heads(average):
    head = x3d_head(average_clips=average)
    logits = torch.randn(6, 12)  # two samples of three clips
    samples = head.predict_by_feat(logits, samples_of())
    for i, sample in enumerate(samples):
        clips = logits[3 * i : 3 * i + 3]
        expected = []
        for part in (clips[:, :5], clips[:, 5:]):
            if average == 'prob':
                expected.append(part.softmax(1).mean(0))
            elif average == 'score':
                expected.append(part.mean(0).softmax(0))
            else:
                expected.append(part.softmax(1))
        assert torch.allclose(
            sample.pred_score, torch.cat(expected, -1), atol=1e-6
        )
        assert torch.equal(
            sample.pred_label,
            torch.stack([part.argmax(-1) for part in expected], -1),
        )


def test_low_precision():
    head = x3d_head(average_clips='prob')
    logits = torch.randn(2, 12).bfloat16()
    assert head.loss_by_feat(logits, samples_of())['loss_verb'].isfinite()
    samples = head.predict_by_feat(logits, samples_of())
    assert samples[0].pred_score.dtype == torch.float32


@pytest.mark.parametrize('make', [tiny_x3d, tiny_mvit, tiny_tsn])
def test_training_and_testing(make):
    model = MODELS.build(with_verbs_and_nouns(make()))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = copy.deepcopy(model.cls_head.state_dict())
    logs = model.train_step(batch_of(make()), OptimWrapper(optimizer))
    assert torch.allclose(logs['loss'], logs['loss_verb'] + logs['loss_noun'])
    after = model.cls_head.state_dict()
    assert all(not torch.equal(after[key], before[key]) for key in after)

    model.eval()
    with torch.no_grad():
        samples = model.test_step(batch_of(make()))
    for sample in samples:
        assert sample.pred_score.shape == (12,)
        assert float(sample.pred_score[:5].sum()) == pytest.approx(1)
        assert float(sample.pred_score[5:].sum()) == pytest.approx(1)


def test_two_dimensional_models_average_their_frames():
    """`num_segs` has reached the stock head: one row a sample, not a frame."""
    model = MODELS.build(with_verbs_and_nouns(tiny_tsn())).eval()
    inputs = torch.randn(2, 4, 3, 32, 32)
    features, options = model.extract_feat(inputs)
    assert options['num_segs'] == 4
    assert model.cls_head(features, **options).shape == (2, 12)


def test_initialisation_is_the_stock_head_s():
    head = VerbNounHead(dict(type='X3DHead', in_channels=432), (97, 300))
    with torch.no_grad():
        head.head.fc2.weight.fill_(3)
    head.init_weights()
    assert float(head.head.fc2.weight.detach().std()) == pytest.approx(
        0.01, rel=0.02
    )


def test_a_stock_checkpoint_is_a_beginning():
    stock = MODELS.build(tiny_x3d())
    model = MODELS.build(with_verbs_and_nouns(tiny_x3d()))
    load_state_dict(model, stock.state_dict())  # not strict, as load_from
    fresh = model.cls_head.head
    assert torch.equal(fresh.fc1.weight, stock.cls_head.fc1.weight)
    assert fresh.fc2.weight.shape == (12, 2048)
    again = MODELS.build(with_verbs_and_nouns(tiny_x3d()))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.cls_head.head.fc2.weight, fresh.fc2.weight)


def test_mixed_labels_are_refused():
    config = with_verbs_and_nouns(
        tiny_x3d(blending=dict(type='MixupBlending', num_classes=12))
    )
    model = MODELS.build(config)
    data = model.data_preprocessor(batch_of(config), training=True)
    with pytest.raises(ValueError, match=r'data_preprocessor\.blending'):
        model(**data, mode='loss')


def test_labels_of_one_question_are_refused():
    with pytest.raises(ValueError, match='EpicKitchensDataset'):
        x3d_head().loss_by_feat(
            torch.randn(1, 12), [ActionDataSample().set_gt_label(3)]
        )


@pytest.mark.parametrize('num_classes', [51, (97,), (97, 300, 5)])
def test_other_numbers_of_classes_are_refused(num_classes):
    with pytest.raises(ValueError, match=r'cls_head\.num_classes=.*97, 300'):
        VerbNounHead(dict(type='X3DHead', in_channels=6), num_classes)


def test_classes_of_the_stock_head_are_refused():
    with pytest.raises(ValueError, match=r'cls_head\.head\.num_classes=400'):
        VerbNounHead(
            dict(type='X3DHead', in_channels=6, num_classes=400), COUNTS
        )
