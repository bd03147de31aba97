"""A memory bank has one row per clip of the training set."""

from types import SimpleNamespace

import pytest
from mmaction.registry import MODELS
from tiny_models import tiny_single_teacher, tiny_x3d

from dtkd_mmaction.engine import ResumableTrainLoop
from dtkd_mmaction.engine.memory_banks import check_memory_banks
from dtkd_mmaction.recognizers.model_spec import build_recognizer, load_config


class Clips(list):
    """A data set of numbers."""


def distiller(num_samples, key='crd'):
    loss = dict(type='CRDLoss', num_samples=num_samples, negatives=4)
    return MODELS.build(tiny_single_teacher(losses={key: loss}))


@pytest.mark.parametrize('wrap', [False, True])
@pytest.mark.parametrize(
    'rows, said',
    [(3570, 'stay random and serve as negatives'), (9, 'have no row')],
)
def test_another_number_of_rows(rows, said, wrap):
    dataset = Clips(range(10))
    if wrap:
        dataset = SimpleNamespace(dataset=SimpleNamespace(dataset=dataset))
    with pytest.raises(
        ValueError,
        match=rf'model\.losses\.crd\.num_samples={rows}.* 10 clips.*{said}'
        r'.*Set it to 10\.',
    ):
        check_memory_banks(distiller(rows), dataset)


def test_the_right_number():
    check_memory_banks(distiller(10), Clips(range(10)))


def test_models_without_a_bank():
    check_memory_banks(MODELS.build(tiny_single_teacher()), Clips(range(10)))
    stock = build_recognizer(load_config(dict(cfg=tiny_x3d()), 'm'), 'm')
    check_memory_banks(stock, Clips(range(10)))


def test_the_training_loop_checks_before_the_first_step():
    loop = object.__new__(ResumableTrainLoop)
    loop._runner = SimpleNamespace(
        call_hook=lambda *_: None, model=distiller(9)
    )
    loop.dataloader = SimpleNamespace(dataset=Clips(range(10)))
    with pytest.raises(ValueError, match='num_samples=9'):
        loop._run()
