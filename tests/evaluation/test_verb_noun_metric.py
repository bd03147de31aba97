import pytest
import torch
from mmaction.registry import METRICS
from mmengine.hooks import CheckpointHook

from dtkd_mmaction.evaluation import VerbNounMetric


def random_samples(count, class_counts, seed=0):
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for _ in range(count):
        logits = [torch.randn(n, generator=generator) for n in class_counts]
        label = [
            # Often a good one, or nothing would be right.
            (4 * x + torch.randn(len(x), generator=generator)).argmax()
            for x in logits
        ]
        samples.append(
            dict(
                pred_score=torch.cat([(3 * x).softmax(0) for x in logits]),
                gt_label=torch.stack(label),
            )
        )
    return samples


def loop_reference(samples, verb_count):
    """Every action of every sample, ranked one by one."""
    right = dict.fromkeys(
        f'{part}/top{k}' for part in ('action', 'verb', 'noun') for k in (1, 5)
    )
    right = {name: 0 for name in right}
    for sample in samples:
        verbs = sample['pred_score'][:verb_count].double().tolist()
        nouns = sample['pred_score'][verb_count:].double().tolist()
        verb, noun = sample['gt_label'].tolist()
        actions = [
            (p * q, (i, j))
            for i, p in enumerate(verbs)
            for j, q in enumerate(nouns)
        ]
        for part, ranked, truth in (
            ('verb', [(p, i) for i, p in enumerate(verbs)], verb),
            ('noun', [(p, i) for i, p in enumerate(nouns)], noun),
            ('action', actions, (verb, noun)),
        ):
            best = [what for _, what in sorted(ranked, reverse=True)[:5]]
            right[f'{part}/top1'] += best[0] == truth
            right[f'{part}/top5'] += truth in best
    return {name: hits / len(samples) for name, hits in right.items()}


@pytest.mark.parametrize('class_counts', [(97, 300), (3, 7), (6, 2), (2, 2)])
def test_against_a_loop(class_counts):
    metric = VerbNounMetric(class_counts)
    samples = random_samples(23, class_counts)
    for start in range(0, 23, 4):  # the last batch is smaller
        metric.process(None, samples[start : start + 4])
    found = metric.evaluate(size=23)
    assert found == pytest.approx(loop_reference(samples, class_counts[0]))
    assert 0 < found['action/top1'] < 1
    assert found['action/top1'] < found['verb/top1']


def test_an_action_is_right_if_both_are():
    metric = VerbNounMetric((2, 3))
    score = torch.tensor([0.9, 0.1, 0.2, 0.5, 0.3])
    for label in ([0, 1], [0, 2], [1, 1], [1, 0]):
        metric.process(
            None, [dict(pred_score=score, gt_label=torch.tensor(label))]
        )
    found = metric.evaluate(size=4)
    assert found['verb/top1'] == found['noun/top1'] == 0.5
    assert found['action/top1'] == 0.25
    # of six actions [1, 0] is the last: 0.1 * 0.2
    assert found['action/top5'] == 0.75


def test_confident_scores_keep_their_order():
    """Products far below float32's smallest number are no ties."""
    verbs = torch.tensor([1.0, 1e-30, 2e-30])
    nouns = torch.tensor([1.0, 1e-30, 3e-30, 0.0, 0.0])
    sample = dict(
        pred_score=torch.cat([verbs, nouns]), gt_label=torch.tensor([2, 2])
    )
    metric = VerbNounMetric((3, 5))
    metric.process(None, [sample])
    # 1, 3e-30, 2e-30, 1e-30, 1e-30 are before 6e-60
    assert metric.evaluate(size=1)['action/top5'] == 0


def test_the_best_checkpoint_is_that_of_actions(logged):
    metric = METRICS.build(dict(type='VerbNounMetric'))
    assert 'prefix is not set' not in logged()
    metric.process(None, random_samples(2, (97, 300)))
    first = next(iter(metric.evaluate(size=2)))
    assert first == 'action/top1'
    hook = CheckpointHook(save_best=first)
    assert hook.rules == ['greater']


def test_other_scores_are_refused():
    sample = dict(pred_score=torch.rand(3, 397), gt_label=torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"\(3, 397\).*average_clips='prob'"):
        VerbNounMetric().process(None, [sample])
