"""Augmentation as a pure function of (seed, sample, view number).

A sampler says which view of a sample is wanted, a dataset wrapper draws it
from random generators that were seeded with just that. So frames, crop and
flip depend on no worker, no rank, no restart and no order of an epoch, and
what a teacher says of a view can be computed once and kept.
"""

import hashlib
import json
import os.path as osp
import random
from contextlib import contextmanager
from typing import Any, Iterator, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from mmaction.registry import DATA_SAMPLERS, DATASETS
from mmengine.dataset import BaseDataset, DefaultSampler

from .clips_digest import clips_digest, decoder_versions
from .kept_views import KeptViews

# So many other samples are tried in place of an unreadable one.
MAX_REPLACEMENTS = 100


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
    key as well, and says that it is the other.

    Args:
        dataset (dict or BaseDataset): The training set.
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
        TypeError: If it wraps something that is not a ``BaseDataset``.
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
        if not isinstance(dataset, BaseDataset):
            raise TypeError(
                'train_dataloader.dataset: KeyedViewDataset wraps a '
                'BaseDataset such as CheckedVideoDataset or VideoDataset, '
                f'found {type(dataset).__name__}.'
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
        self.dataset = dataset
        self.seed = seed
        self.views = views
        self.folder = None
        self._kept: Optional[KeptViews] = None
        if kept_in is not None:
            pipeline = config['pipeline']
            described = json.dumps(
                [config['type'], pipeline, seed, decoder_versions(pipeline)],
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
            key (tuple[int, int] or int): Sample and view, from
                :class:`KeyedViewSampler`; a sample alone is its view 0.

        Raises:
            RuntimeError: If no sample can be read.
        """
        index, view = key if isinstance(key, tuple) else (key, 0)
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
        with keyed_generators([self.seed, index, view]):
            data = self.dataset.prepare_data(index)
        if data is not None:
            sample = data['data_samples']
            if not hasattr(sample, 'set_metainfo'):
                raise TypeError(
                    'train_dataloader.dataset: KeyedViewDataset wraps data '
                    'sets of one view a sample, but '
                    f'{type(self.dataset).__name__} gives several.'
                )
            sample.set_metainfo(dict(sample_idx=index, view=view))
        return data


@DATA_SAMPLERS.register_module()
class KeyedViewSampler(DefaultSampler):
    """MMEngine's ``DefaultSampler``, which says which view it asks for.

    The view's number is the epoch's. Its order depends on the run's seed
    and the epoch alone.

    Args:
        **kwargs: Those of ``DefaultSampler``.

    Attributes:
        skip (int): So many samples of the next epoch are left out, because
            an interrupted run has had them.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.skip = 0

    def __iter__(self) -> Iterator[Tuple[int, int]]:
        indices = list(super().__iter__())[self.skip :]
        self.skip = 0
        return iter([(index, self.epoch) for index in indices])
