"""Augmentation as a pure function of (seed, sample, view number).

A sampler selects a view of a sample, and a dataset wrapper computes it with
random generators that are seeded with this key. So frames, crop and flip do
not depend on workers, ranks, restarts or the order of an epoch, and teacher
outputs can be computed once and cached.
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

# Number of other samples that are tried instead of an unreadable one.
MAX_REPLACEMENTS = 100
NO_VIEW = (
    'train_dataloader.sampler: it asks KeyedViewDataset for sample {index} '
    'without a view, so every epoch would have the same augmentation. Set '
    "train_dataloader.sampler=dict(type='KeyedViewSampler', shuffle=True), "
    "or train_cfg.type='ResumableTrainLoop', which adds the views to any "
    'sampler.'
)


def seed_generators(key: Sequence[int]) -> None:
    """Seeds the generators of Python, NumPy and PyTorch (CPU) with a key.

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
    """Seeds all generators with a key, and restores them afterwards."""
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
    """Returns the requested view of a sample, the same for the same key.

    The wrapped data set's pipeline is a stock one: the generators of Python,
    NumPy and PyTorch are seeded around it and restored. Every sample contains
    its key (``metainfo['sample_idx']`` and ``['view']``). An unreadable clip
    is replaced by a view of another sample, which is also a function of the
    key and contains its own index. A data set that gives several views of a
    sample at once (``RepeatAugDataset``) gives a list, all of whose items have
    the same key.

    Args:
        dataset (dict or BaseDataset): The training set. MMEngine's wrappers
            (``RepeatDataset``, ``ConcatDataset``) may be around it; every
            repetition of a sample then has its own index and views.
        seed (int): Seed of the views. It is independent of
            ``randomness.seed``, so runs with several seeds can share a teacher
            cache. Defaults to 0.
        views (int, optional): Number of views per sample; the epochs cycle
            through them. Defaults to None: a new view in every epoch.
        kept_in (str, optional): Folder in which the outputs of the pipeline
            are stored, so that later epochs and other runs need not decode
            again. A training clip of 16 x 224 x 224 takes 2.4 MB per view.
            Each pipeline, seed, list and decoder version has its own
            subfolder. A damaged file is computed again. Needs ``views``.

    Raises:
        TypeError: If it wraps something that is not a ``BaseDataset``, or if a
            sample is requested without a view.
        ValueError: For ``views`` below 1, or ``kept_in`` without it.

    Example:
        >>> import numpy as np
        >>> from mmaction.structures import ActionDataSample
        >>> from mmengine.dataset import BaseDataset
        >>> from dtkd_mmaction.datasets import KeyedViewDataset
        >>> class Noise(BaseDataset):
        ...     def load_data_list(self):
        ...         return [dict(), dict()]
        ...     def prepare_data(self, index):
        ...         return dict(
        ...             inputs=np.random.rand(),
        ...             data_samples=ActionDataSample(),
        ...         )
        >>> dataset = KeyedViewDataset(Noise())
        >>> dataset[1, 0]['inputs'] == dataset[1, 0]['inputs']
        True
        >>> dataset[1, 0]['inputs'] == dataset[1, 1]['inputs']
        False
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
        """Meta information of the wrapped data set."""
        return self.dataset.metainfo

    def full_init(self) -> None:
        """Loads the annotations of the wrapped data set."""
        self.dataset.full_init()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Union[int, Tuple[int, int]]) -> Any:
        """Returns one view of one sample.

        Args:
            key (tuple[int, int]): Sample and view, from
                :class:`KeyedViewSampler`. With ``views=1``, the index of the
                sample is enough.

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
        """Reads or computes a view; returns None if the clip is unreadable."""
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
    """MMEngine's ``DefaultSampler`` that also selects the views.

    The number of the view is the number of the epoch. The order depends only
    on the run's seed and the epoch.

    Args:
        dataset (KeyedViewDataset): The training set.
        **kwargs: Arguments of ``DefaultSampler``.

    Attributes:
        skip (int): Number of samples of the next epoch to skip, because an
            interrupted run has already seen them.

    Raises:
        TypeError: For a data set that takes plain sample indices.

    Example:
        >>> from dtkd_mmaction.datasets import KeyedViewSampler
        >>> sampler = KeyedViewSampler(range(3), shuffle=False)
        >>> list(sampler)
        [(0, 0), (1, 0), (2, 0)]
        >>> sampler.set_epoch(1)
        >>> list(sampler)
        [(0, 1), (1, 1), (2, 1)]
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
    """Skips the beginning of an epoch of another sampler.

    Args:
        sampler (Sampler): Sampler of sample indices.
        keyed (bool): Whether the data set is a :class:`KeyedViewDataset`,
            which needs the number of the view too.

    Attributes:
        epoch (int): The number of the view.
        skip (int): Number of samples of the next epoch to skip.
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
