"""A training list with the label -1, before the first step."""

from types import SimpleNamespace

import pytest
import torch
from mmaction.registry import MODELS
from tiny_models import tiny_distiller

from dtkd_mmaction.engine.unlabelled_clips import (
    allow_unlabelled_clips,
    count_unlabelled,
)
from dtkd_mmaction.recognizers import label_loss


class Clips:
    """A data set of some labels."""

    def __init__(self, *labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def get_data_info(self, index):
        return dict(label=self.labels[index])


class Wrapped(Clips):
    """A wrapper without ``get_data_info``, as ``KeyedViewDataset``."""

    get_data_info = property(lambda self: self.no_such_thing)

    def __init__(self, dataset):
        super().__init__(*dataset.labels)
        self.dataset = dataset


def test_counts_inside_wrappers():
    assert count_unlabelled(Wrapped(Clips(0, -1, 2, -1))) == 2
    assert count_unlabelled(Clips(0, 1)) == 0


def test_a_distiller_is_told():
    model = MODELS.build(tiny_distiller())
    allow_unlabelled_clips(model, Clips(0, 1))
    assert not model.has_unlabelled_clips
    allow_unlabelled_clips(model, Clips(0, -1))
    assert model.has_unlabelled_clips


def test_none_labelled_needs_label_weight_0():
    with pytest.raises(ValueError, match='model.label_weight=0'):
        allow_unlabelled_clips(MODELS.build(tiny_distiller()), Clips(-1, -1))
    model = MODELS.build(tiny_distiller(label_weight=0.0))
    allow_unlabelled_clips(model, Clips(-1, -1))


def test_a_plain_recognizer_needs_labels():
    with pytest.raises(ValueError, match='learns from labels alone'):
        allow_unlabelled_clips(torch.nn.Linear(1, 1), Clips(0, -1))


@pytest.mark.parametrize('labelled', [(3, 1), (0, 4), (2, 2)])
def test_ranks_with_other_numbers_of_labels(labelled, monkeypatch):
    """The mean of the ranks' scaled losses is the mean over all clips."""
    losses = [torch.arange(1.0, n + 1) * 2 for n in labelled]
    scaled = []
    for own in losses:
        fake = SimpleNamespace(
            get_world_size=lambda: 2,
            all_reduce=lambda x: x.copy_(torch.tensor(float(sum(labelled)))),
        )
        monkeypatch.setattr(label_loss, 'dist', fake)
        mean = own.mean() if len(own) else torch.tensor(0.0)
        found = label_loss.mean_over_ranks(
            dict(loss_cls=mean, top1_acc=mean), len(own), mean.device
        )
        assert found['top1_acc'] is mean
        scaled.append(found['loss_cls'])
    torch.testing.assert_close(sum(scaled) / 2, torch.cat(losses).mean())
