"""Augmentation as a pure function of (seed, sample, view number).

A sampler says which view of a sample is wanted, a dataset wrapper draws it
from random generators that were seeded with just that. So frames, crop and
flip depend on no worker, no rank, no restart and no order of an epoch, and
what a teacher says of a view can be computed once and kept.
"""

import hashlib
import itertools
import json
import os.path as osp
import random
from contextlib import contextmanager
from typing import Any, Iterator, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from mmaction.datasets import RepeatAugDataset
from mmaction.registry import DATA_SAMPLERS, DATASETS
from mmengine.dataset import BaseDataset, DefaultSampler
from torch.utils.data import Sampler

from .clips_digest import clips_digest, decoder_versions
from .dataset_wrappers import (
    WRAPPERS,
    base_configs,
    base_datasets,
    find_sample,
)
from .kept_views import KeptViews

# So many other samples are tried in place of an unreadable one.
MAX_REPLACEMENTS = 100
NO_VIEW = (
    'train_dataloader.sampler: it asks KeyedViewDataset for sample {index} '
    'without a view, so every epoch would have the same augmentation. Set '
    "train_dataloader.sampler=dict(type='KeyedViewSampler', shuffle=True), "
    "or train_cfg.type='ResumableTrainLoop', which adds the views to any "
    'sampler.'
)


def seed_generators(key: Sequence[int]) -> None:
    """Seed the generators of Python, NumPy and PyTorch (CPU) with a key.

    Args:
        key (Sequence[int]): Non-negative numbers; keys that differ in one
            of them give independent streams.
    """
    words = np.random.SeedSequence(list(key)).generate_state(6)
    random.seed(int(words[0]) << 32 | int(words[1]))
    np.random.seed(words[2:4])
    torch.default_generator.manual_seed(int(words[4]) << 31 | int(words[5]))


@contextmanager
def keyed_generators(key: Sequence[int]) -> Iterator[None]:
    """Seed all generators with a key, and put them back afterwards."""
    python, numpy, pytorch = (
        random.getstate(),
        np.random.get_state(),
        torch.get_rng_state(),
    )
    try:
        seed_generators(key)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(pytorch)


@DATASETS.register_module()
class KeyedViewDataset:
    """Gives the view of a sample that is asked for, always the same.

    The wrapped data set's pipeline is a stock one: the generators of Python,
    NumPy and PyTorch are seeded around it and restored. Every sample says
    what it is (``metainfo['sample_idx']`` and ``['view']``). An unreadable
    clip is replaced by a view of another sample that is a function of the
    key as well, and says that it is the other. A data set that gives several
    views of a sample at once (``RepeatAugDataset``) gives a list, all of
    whose items have the same key.

    Args:
        dataset (dict or BaseDataset): The training set. MMEngine's wrappers
            (``RepeatDataset``, ``ConcatDataset``) may be around it; every
            repetition of a sample then has its own index and views.
        seed (int): Another seed gives other views. It is not the run's
            (``randomness.seed``), so that runs with several seeds can share
            what teachers said. Defaults to 0.
        views (int, optional): Views of every sample; epochs cycle through
            them. Defaults to None: every epoch is a new view.
        kept_in (str, optional): Folder where views are kept as they left
            the pipeline, so that later epochs and other runs need not
            decode again; a training clip of 16 x 224 x 224 takes 2.4 MB a
            view. Another pipeline, seed, list or decoder version has a
            subfolder of its own. A damaged file is drawn again. Needs
            ``views``.

    Raises:
        TypeError: If it wraps something that is not a ``BaseDataset``, or
            is asked for a sample without a view.
        ValueError: For ``views`` below 1, or ``kept_in`` without it.
    """

    def __init__(
        self,
        dataset: Union[dict, BaseDataset],
        seed: int = 0,
        views: Optional[int] = None,
        kept_in: Optional[str] = None,
    ) -> None:
        config = dataset
        if isinstance(dataset, dict):
            dataset = DATASETS.build(dataset)
        for part in base_datasets(dataset):
            if not isinstance(part, BaseDataset):
                raise TypeError(
                    'train_dataloader.dataset.dataset: found a '
                    f'{type(part).__name__}; KeyedViewDataset wraps a '
                    'BaseDataset such as CheckedVideoDataset, or MMEngine '
                    'wrappers (RepeatDataset, ConcatDataset) around one.'
                )
        if views is not None and views < 1:
            raise ValueError(
                f'train_dataloader.dataset.views={views}: give the number '
                'of views of a sample, or None for a new one every epoch.'
            )
        if kept_in is not None and views is None:
            raise ValueError(
                f'train_dataloader.dataset.kept_in={kept_in!r} needs views: '
                'every epoch is a new view otherwise, and none comes again.'
            )
        if kept_in is not None and any(
            isinstance(part, RepeatAugDataset)
            for part in base_datasets(dataset)
        ):
            raise ValueError(
                f'train_dataloader.dataset.kept_in={kept_in!r}: found a '
                'RepeatAugDataset, which gives several clips per view; '
                'kept_in needs one. Use CheckedVideoDataset with views=N, '
                'or leave kept_in out.'
            )
        self.dataset = dataset
        self.seed = seed
        self.views = views
        self.folder = None
        self._kept: Optional[KeptViews] = None
        if kept_in is not None:
            described = json.dumps(
                [
                    [part['type'], part['pipeline'], seed]
                    + [decoder_versions(part['pipeline'])]
                    for part in base_configs(config)
                ],
                sort_keys=True,  # a config that was dumped has them sorted
                default=str,
            )
            digest = hashlib.sha256(described.encode())
            digest.update(clips_digest(dataset).encode())
            self.folder = osp.join(kept_in, digest.hexdigest()[:16])
            self._kept = KeptViews(self.folder)

    @property
    def metainfo(self) -> dict:
        """Of the wrapped data set."""
        return self.dataset.metainfo

    def full_init(self) -> None:
        """Load the annotations of the wrapped data set."""
        self.dataset.full_init()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Union[int, Tuple[int, int]]) -> Any:
        """One view of one sample.

        Args:
            key (tuple[int, int]): Sample and view, from
                :class:`KeyedViewSampler`. With ``views=1`` a sample's
                number alone will do.

        Raises:
            TypeError: If the view is missing.
            RuntimeError: If no sample can be read.
        """
        if not isinstance(key, tuple):
            if self.views != 1:
                raise TypeError(NO_VIEW.format(index=key))
            key = (key, 0)
        index, view = key
        view = view % self.views if self.views else view
        replacements = np.random.default_rng([self.seed, index, view])
        for _ in range(MAX_REPLACEMENTS + 1):
            data = self._draw(index, view)
            if data is not None:
                return data
            index = int(replacements.integers(len(self)))
        raise RuntimeError(
            f'None of {MAX_REPLACEMENTS} samples could be read.'
        )

    def _draw(self, index: int, view: int) -> Optional[dict]:
        """Reads a view or draws it; None if the clip is unreadable."""
        if self._kept is None:
            return self._decode(index, view)
        data = self._kept.read(index, view)
        if data is None:
            data = self._decode(index, view)
            if data is not None:
                self._kept.write(index, view, data)
        return data

    def _decode(self, index: int, view: int) -> Optional[dict]:
        dataset, inner_index = find_sample(self.dataset, index)
        with keyed_generators([self.seed, index, view]):
            data = dataset.prepare_data(inner_index)
        if data is not None:
            for part in data if isinstance(data, list) else [data]:
                part['data_samples'].set_metainfo(
                    dict(sample_idx=index, view=view)
                )
        return data


@DATA_SAMPLERS.register_module()
class KeyedViewSampler(DefaultSampler):
    """MMEngine's ``DefaultSampler``, which says which view it asks for.

    The view's number is the epoch's. Its order depends on the run's seed
    and the epoch alone.

    Args:
        dataset (KeyedViewDataset): The training set.
        **kwargs: Arguments of ``DefaultSampler``.

    Attributes:
        skip (int): So many samples of the next epoch are left out, because
            an interrupted run has had them.

    Raises:
        TypeError: For a data set that takes plain sample numbers.
    """

    def __init__(self, dataset: KeyedViewDataset, **kwargs) -> None:
        if isinstance(dataset, (BaseDataset, *WRAPPERS)):
            name = type(dataset).__name__
            raise TypeError(
                f'train_dataloader.dataset is a {name}, but KeyedViewSampler '
                'needs a KeyedViewDataset outside of all others. Write '
                "dataset=dict(type='KeyedViewDataset', "
                f"dataset=dict(type='{name}', ...))."
            )
        super().__init__(dataset, **kwargs)
        self.skip = 0

    def __iter__(self) -> Iterator[Tuple[int, int]]:
        indices = list(super().__iter__())[self.skip :]
        self.skip = 0
        return iter([(index, self.epoch) for index in indices])


class SkippingSampler(Sampler):
    """Leaves out the beginning of an epoch of another sampler.

    Args:
        sampler (Sampler): It gives the numbers of samples.
        keyed (bool): Whether the data set is a :class:`KeyedViewDataset`,
            which needs the number of the view too.

    Attributes:
        epoch (int): The number of the view.
        skip (int): Number of samples of the next epoch to leave out.
    """

    def __init__(self, sampler: Sampler, keyed: bool) -> None:
        self.sampler = sampler
        self.keyed = keyed
        self.epoch = 0
        self.skip = 0

    def __iter__(self) -> Iterator[Union[int, Tuple[int, int]]]:
        skip, self.skip = self.skip, 0
        for index in itertools.islice(self.sampler, skip, None):
            yield (int(index), self.epoch) if self.keyed else index

    def __len__(self) -> int:
        return len(self.sampler)
