"""Losses of a head with two questions, each with its classes alone."""

import torch

from dtkd_mmaction.distillers.class_parts import class_parts


def test_an_ordinary_head_is_one_part_without_a_name():
    head = torch.nn.Linear(2, 4)
    (part,) = class_parts(head, 4)
    logits, mixed = torch.rand(3, 4), torch.rand(3, 4)
    assert part.suffix == ''
    assert torch.equal(part.logits_of(logits), logits)
    assert torch.equal(part.labels_of(mixed), mixed.argmax(dim=1))


def test_parts_split_logits_and_labels():
    head = torch.nn.Linear(2, 5)
    head.class_counts = dict(verb=2, noun=3)
    verb, noun = class_parts(head, 5)
    logits = torch.rand(4, 5)
    assert torch.equal(
        torch.cat([verb.logits_of(logits), noun.logits_of(logits)], dim=1),
        logits,
    )
    labels = torch.tensor([[1, 2], [0, 1]])
    assert noun.labels_of(labels).tolist() == [2, 1]
    assert (verb.suffix, noun.suffix) == ('_verb', '_noun')
