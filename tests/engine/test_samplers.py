"""Samples and views that the training loop requests, for any sampler."""

import pytest
import torch
from mmaction.registry import DATA_SAMPLERS, HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner
from noise_clips import write_clips
from one_weight import one_weight_run
from torch.utils.data import RandomSampler
from two_processes import join, start_ranks

CLIPS = 6


@DATA_SAMPLERS.register_module()
class RandomOrderSampler(RandomSampler):
    """PyTorch's sampler, which knows no seed and no epoch."""

    def __init__(self, dataset, seed=None):
        super().__init__(dataset)


@HOOKS.register_module()
class RecordKeysHook(Hook):
    """Writes down which views every epoch has seen."""

    def __init__(self, path, stop_at=None):
        self.path, self.stop_at = path, stop_at
        self.epochs = []

    def before_train_epoch(self, runner):
        self.epochs.append([])

    def before_train_iter(self, runner, batch_idx, data_batch):
        if runner.iter == self.stop_at:
            runner.train_loop._on_sigterm()
        self.epochs[-1] += [
            (s.metainfo['sample_idx'], s.metainfo.get('view'))
            for s in data_batch['data_samples']
        ]
        torch.save(self.epochs, f'{self.path}.{runner.rank}')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('samplers')
    write_clips(root, dict(train=CLIPS))
    return root


def config(root, name, epochs=2, stop_at=None, **options):
    record = dict(
        type='RecordKeysHook', path=str(root / f'{name}.pt'), stop_at=stop_at
    )
    return one_weight_run(root, name, [record], epochs, **options)


def keys(root, name, ranks=1, codes=0, **options):
    """The keys of every epoch, one list per rank."""
    options['launcher'] = 'pytorch' if ranks > 1 else 'none'
    run_config = config(root, name, **options)
    log = str(root / f'{name}.log')

    def train():
        Runner.from_cfg(run_config).train()

    found = join(start_ranks(train, (), ranks, log))
    assert found == [codes] * ranks, open(f'{log}.0').read()
    return [torch.load(root / f'{name}.pt.{rank}') for rank in range(ranks)]


def view(epoch):
    return [(sample, epoch) for sample in range(CLIPS)]


@pytest.mark.parametrize('workers', [0, 1])
def test_a_stock_sampler_gets_a_new_view_every_epoch(folder, workers):
    (epochs,) = keys(
        folder,
        f'stock_{workers}',
        epochs=3,
        **{
            'train_dataloader.sampler.type': 'DefaultSampler',
            'train_dataloader.num_workers': workers,
            'train_dataloader.persistent_workers': workers > 0,
        },
    )
    assert [sorted(epoch) for epoch in epochs] == [view(0), view(1), view(2)]
    assert epochs[0] != view(0)  # shuffled


def test_the_same_keys_as_those_of_the_keyed_sampler(folder):
    ours = keys(folder, 'keyed')
    theirs = keys(
        folder,
        'default',
        **{'train_dataloader.sampler.type': 'DefaultSampler'},
    )
    assert ours == theirs


def test_a_sampler_whose_order_comes_from_the_generators(folder):
    """It continues within its epoch and in a later one as if uninterrupted."""
    options = {
        'train_dataloader.sampler': dict(
            type='RandomOrderSampler', _delete_=True
        )
    }
    (whole,) = keys(folder, 'random', **options)
    assert [sorted(epoch) for epoch in whole] == [view(0), view(1)]
    (begun,) = keys(folder, 'torn', stop_at=3, codes=75, **options)
    (rest,) = keys(folder, 'torn', resume=True, **options)
    assert begun[0] == whole[0]
    assert begun[1] + rest[0] == whole[1]


def test_a_plain_data_set_resumes_within_an_epoch(folder):
    """No clip is repeated; the augmentation differs."""
    dataset = config(folder, 'plain').train_dataloader.dataset.dataset
    options = {
        'train_dataloader.sampler.type': 'DefaultSampler',
        'train_dataloader.dataset': dict(dataset, _delete_=True),
    }
    (whole,) = keys(folder, 'plain', **options)
    (begun,) = keys(folder, 'plain_torn', stop_at=3, codes=75, **options)
    (rest,) = keys(folder, 'plain_torn', resume=True, **options)
    assert begun[1] + rest[0] == whole[1]
    assert {view for _, view in whole[1]} == {None}


def test_a_wrapper_around_the_keyed_data_set(folder):
    (epochs,) = keys(
        folder,
        'wrapped',
        **{
            'train_dataloader.dataset': dict(
                type='RepeatDataset',
                times=2,
                dataset=config(folder, '').train_dataloader.dataset,
                _delete_=True,
            )
        },
    )
    for number, epoch in enumerate(epochs):
        assert sorted(epoch) == [(i, number) for i in range(2 * CLIPS)]


@pytest.mark.parametrize('sampler', ['KeyedViewSampler', 'DefaultSampler'])
def test_two_processes_with_seeds_of_their_own(folder, sampler):
    """Each clip is seen once in an epoch, also after a resume."""
    name = f'two_{sampler}'
    options = {
        'train_dataloader.sampler.type': sampler,
        'randomness.diff_rank_seed': True,
        'train_dataloader.batch_size': 1,
    }
    whole = keys(folder, name, ranks=2, **options)
    for number in (0, 1):
        seen = [key for rank in whole for key in rank[number]]
        assert sorted(seen) == view(number)
    options['randomness.seed'] = None  # comes from the checkpoint
    rest = keys(
        folder,
        f'{name}_resumed',
        ranks=2,
        resume=True,
        load_from=str(folder / name / 'epoch_1.pth'),
        **options,
    )
    for ours, theirs in zip(rest, whole):
        assert ours == [theirs[1]]


def test_another_loop_names_the_key(folder):
    """MMEngine's loop cannot give views to a stock sampler."""
    options = {
        'train_dataloader.sampler.type': 'DefaultSampler',
        'train_cfg.type': 'EpochBasedTrainLoop',
    }
    run_config = config(folder, 'other_loop', **options)
    # The check of the whole config names the sampler before the data set does.
    with pytest.raises(ValueError, match='KeyedViewSampler'):
        Runner.from_cfg(run_config).train()
    run_config.check_config = False
    run_config.work_dir = f'{run_config.work_dir}_unchecked'
    with pytest.raises(TypeError, match=r"type='KeyedViewSampler'"):
        Runner.from_cfg(run_config).train()
