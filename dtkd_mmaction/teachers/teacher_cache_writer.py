"""Runs frozen teachers once over keyed views and keeps what they say."""

import json
import os
import os.path as osp
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor
from torch.utils.data import DataLoader

from ..datasets.keyed_views import KeyedViewDataset
from ..modules.grid import resize_grid
from ..recognizers.data_samples import view_keys
from ..recognizers.feature_tap import EXTRAS, Recording
from ..version import __version__
from .cache_fingerprint import as_json, describe_data, differences
from .protocol import TaughtModel
from .teacher_cache import (
    CHECKSUM,
    MANIFEST,
    MAPS,
    TeacherCache,
    checksum,
    missing_shards,
    record_dtype,
    save_atomically,
    shard_path,
    values_path,
)

DTYPES = dict(float16='<f2', float32='<f4')


class RecordLayout:
    """What a record of a cache holds, and how large it is.

    Args:
        distiller (TaughtModel): Of the config.
        maps (str): How the teachers' last maps are kept,
            :data:`~.teacher_cache.MAPS`.
        dtype (str): ``'float16'`` or ``'float32'``.
        also (Sequence[str]): Quantities of every teacher that no loss of
            this config reads, for other configs that share the cache:
            ``'map'``, ``'maps'`` or ``'stem'``.

    Raises:
        ValueError: If the losses read what cannot be kept so.

    Attributes:
        needed (dict[str, set[str]]): Teacher -> quantities.
        compared_on (dict, optional): What kept maps depend on besides.
        fields (dict[str, tuple]): Name -> dtype, shape.
        values_dtype (str): Of the ragged values.
    """

    def __init__(
        self,
        distiller: TaughtModel,
        maps: str,
        dtype: str,
        also: Sequence[str] = (),
    ) -> None:
        self.distiller = distiller
        self.needed = {
            name: quantities | set(also)
            for name, quantities in distiller.teacher_quantities.items()
        }
        self._check_quantities(maps)
        self.compared_on = None
        if any('compared_map' in q for q in self.needed.values()):
            self.compared_on = distiller.cached_map_options(maps)
        self.values_dtype = DTYPES[dtype]
        self.fields = self._fields(maps, DTYPES[dtype])

    def _check_quantities(self, maps: str) -> None:
        if maps not in MAPS:
            raise ValueError(f'maps={maps!r}: choose one of {MAPS}.')
        if not self.needed:
            raise ValueError('model: this distiller has no teachers.')
        for name, quantities in self.needed.items():
            if 'clip' in quantities:
                raise ValueError(
                    f"model.losses: one reads the {name} teacher's own clip, "
                    'which is its input: a cache cannot save that.'
                )
            native = quantities & {'map', 'maps', 'stem'}
            if native and maps != 'native':
                raise ValueError(
                    f'maps={maps!r} keeps what model.loss_sd compares, but '
                    f"the losses read the {name} teacher's "
                    f'{sorted(native)}: use maps=native.'
                )

    def _fields(self, maps: str, dtype: str) -> Dict[str, tuple]:
        fields: Dict[str, tuple] = {}
        teachers = self.distiller.build_teachers()
        for name, quantities in self.needed.items():
            tap = teachers[name].tap
            fields[f'{name}.logits'] = (dtype, (tap.num_classes,))
            fields[f'{name}.embedding'] = (dtype, (tap.embedding_width,))
            shape = tap.shapes['map']
            if 'map' in quantities or (
                'compared_map' in quantities and maps == 'native'
            ):
                fields[f'{name}.map'] = (dtype, shape)
            elif 'compared_map' in quantities and maps == 'student_grid':
                grid = self.compared_on['grid']
                fields[f'{name}.map'] = (dtype, (shape[0], *grid))
            if 'maps' in quantities:
                for i, stage in enumerate(tap.shapes['maps']):
                    fields[f'{name}.maps.{i}'] = (dtype, stage)
            if 'stem' in quantities:
                fields[f'{name}.stem'] = (dtype, tap.shapes['stem'])
        if maps == 'masked' and self.compared_on:
            positions = int(np.prod(self.compared_on['grid']))
            fields['residual.mask'] = ('|u1', ((positions + 7) // 8,))
            fields['residual.first'] = ('<i8', ())
            fields['residual.count'] = ('<i4', ())
        return fields

    @property
    def bytes_per_view(self) -> float:
        """Of one sample. Of a masked cache: with half of its positions."""
        size = record_dtype(self.fields).itemsize
        if 'residual.mask' in self.fields:
            positions = int(np.prod(self.compared_on['grid']))
            width = self.compared_on['width']
            size += (
                positions * width * np.dtype(self.values_dtype).itemsize / 2
            )
        return size


class TeacherCacheWriter:
    """Writes the shards of a cache that are not there yet.

    Args:
        distiller (TaughtModel): Of the config, without a cache; on the
            device that is to be used.
        dataset (KeyedViewDataset): The training set.
        dataset_config (dict): ``train_dataloader.dataset``.
        folder (str): The cache. One that is begun is gone on with.
        views (int): Views of every sample.
        maps, dtype, also: Of :class:`RecordLayout`.
        shard (int): Samples a file; what a kill can cost.

    Raises:
        ValueError: If the losses read what cannot be kept so, or the folder
            holds a cache of something else.
    """

    def __init__(
        self,
        distiller: TaughtModel,
        dataset: KeyedViewDataset,
        dataset_config: dict,
        folder: str,
        views: int,
        maps: str = 'student_grid',
        dtype: str = 'float16',
        shard: int = 256,
        also: Sequence[str] = (),
    ) -> None:
        self.distiller = distiller
        self.dataset = dataset
        self.folder = folder
        self.layout = RecordLayout(distiller, maps, dtype, also)
        self.dtype = record_dtype(self.layout.fields)
        taps = {n: t.tap for n, t in distiller.teachers.items()}
        self.manifest = as_json(
            dict(
                dtkd_mmaction=__version__,
                samples=len(dataset),
                views=views,
                shard=shard,
                maps=maps,
                fields=self.layout.fields,
                teachers=distiller.describe_teachers(),
                data=describe_data(dataset, dataset_config),
                compared_on=self.layout.compared_on,
                shapes={
                    name: dict(
                        tap=tap.shapes,
                        embedding_width=tap.embedding_width,
                        num_classes=tap.num_classes,
                    )
                    for name, tap in taps.items()
                },
            )
        )
        self._check_folder()

    def _check_folder(self) -> None:
        path = osp.join(self.folder, MANIFEST)
        if not osp.exists(path):
            return
        with open(path) as file:
            found = differences(json.load(file), self.manifest)
        if found:
            raise ValueError(
                f'{self.folder} holds a cache of something else:\n'
                + '\n'.join(found)
                + '\nGive another folder, or delete this one.'
            )

    def todo(self) -> List[Tuple[int, int]]:
        """Shards that are not there yet: (view, first sample)."""
        missing = set(missing_shards(self.folder, self.manifest))
        return [
            (view, first)
            for view in range(self.manifest['views'])
            for first in range(
                0, self.manifest['samples'], self.manifest['shard']
            )
            if shard_path(self.folder, view, first) in missing
        ]

    def count_clips(self, shards: Sequence[Tuple[int, int]]) -> int:
        """Records in some shards."""
        return sum(self._end(first) - first for _, first in shards)

    def _end(self, first: int) -> int:
        return min(first + self.manifest['shard'], self.manifest['samples'])

    def begin(self) -> None:
        """Write the manifest."""
        os.makedirs(self.folder, exist_ok=True)
        path = osp.join(self.folder, MANIFEST)
        with open(f'{path}.writing', 'w') as file:
            json.dump(self.manifest, file, indent=1)
        os.replace(f'{path}.writing', path)

    def write(
        self,
        shards: Sequence[Tuple[int, int]],
        batch_size: int,
        num_workers: int = 0,
    ) -> Iterator[int]:
        """Write shards, batch by batch.

        Args:
            shards (Sequence[tuple[int, int]]): Of :meth:`todo`.
            batch_size (int): Clips a forward.
            num_workers (int): Processes that decode. Defaults to 0.

        Yields:
            int: Clips of one batch.
        """
        batches = []
        for view, first in shards:
            keys = [(index, view) for index in range(first, self._end(first))]
            batches += [
                keys[start : start + batch_size]
                for start in range(0, len(keys), batch_size)
            ]
        loader = DataLoader(
            self.dataset,
            batch_sampler=batches,
            num_workers=num_workers,
            collate_fn=pseudo_collate,
        )
        records: List[np.ndarray] = []
        values: List[np.ndarray] = []
        remaining = iter(shards)
        for wanted, data in zip(batches, loader):
            found, kept = self._answer(data, wanted, sum(map(len, values)))
            records.append(found)
            values.extend(kept)
            last = wanted[-1][0]
            if last + 1 == self.manifest['samples'] or (
                (last + 1) % self.manifest['shard'] == 0
            ):
                path = shard_path(self.folder, *next(remaining))
                if values:
                    save_atomically(values_path(path), np.concatenate(values))
                save_atomically(path, np.concatenate(records))
                records, values = [], []
            yield len(wanted)

    def try_out(self, count: int) -> None:
        """Answer for some clips and forget it, to see how long it takes."""
        keys = [(i % len(self.dataset), 0) for i in range(count)]
        self._answer(
            pseudo_collate([self.dataset[key] for key in keys]), keys, 0
        )

    def distances(
        self, cache: TeacherCache, keys: Sequence[Tuple[int, int]]
    ) -> Dict[str, float]:
        """How far the teachers now are from what a cache holds.

        Args:
            cache (TeacherCache): A finished one.
            keys (Sequence[tuple[int, int]]): Samples and views to compare.

        Returns:
            dict[str, float]: Field -> largest difference, as a part of the
                largest value.
        """
        cache.data_is_checked = True  # by this writer's manifest
        found: Dict[str, float] = {}
        for key in keys:
            data = pseudo_collate([self.dataset[key]])
            key = view_keys(data['data_samples'])[0]
            kept = cache.records([key])
            live, _ = self._answer(data, [key], 0)
            for field in self.dtype.names:
                if field.split('.')[0] not in ('residual', CHECKSUM):
                    a, b = (r[field].astype(np.float32) for r in (kept, live))
                    distance = float(abs(a - b).max() / abs(b).max())
                    found[field] = max(found.get(field, 0), distance)
        return found

    def _answer(
        self, data: dict, wanted: List[Tuple[int, int]], first: int
    ) -> Tuple[np.ndarray, List[np.ndarray]]:
        """Records of one batch, and the ragged values behind them."""
        distiller = self.distiller
        with torch.no_grad():
            batch = distiller.data_preprocessor(data)
            clips, samples = batch['inputs'], batch['data_samples']
            taught = {
                name: distiller.teachers[name](
                    clips, quantities.intersection(EXTRAS)
                )
                for name, quantities in self.layout.needed.items()
            }
            arrays, residuals = self._arrays(taught)
        records = np.zeros(len(wanted), self.dtype)
        for name, array in arrays.items():
            with np.errstate(over='ignore'):
                records[name] = array
            if not np.isfinite(records[name]).all():
                raise ValueError(
                    f'{name} does not fit into {self.dtype[name].base}: use '
                    '--dtype float32. If it does not help, the teacher gives '
                    'NaN.'
                )
        keys, values = view_keys(samples), []
        for row, key in enumerate(keys):
            kept = None
            if residuals is not None:
                kept = residuals[row].astype(self.layout.values_dtype)
                records['residual.first'][row] = first
                records['residual.count'][row] = len(kept)
                first += len(kept)
                values.append(kept)
            if key == wanted[row]:
                records[CHECKSUM][row] = checksum(records[row : row + 1], kept)
            # An unreadable clip: the data set gave another's view, which has
            # a record of its own. This one is never asked for.
        return records, values

    def _arrays(
        self, taught: Dict[str, Recording]
    ) -> Tuple[Dict[str, np.ndarray], Optional[List[np.ndarray]]]:
        """Field -> (B, ...), and kept residuals (count, C) a sample."""
        arrays: Dict[str, Any] = {}
        compared_on = self.layout.compared_on
        on_grid = self.manifest['maps'] == 'student_grid'
        for field in self.dtype.names:
            name, *quantity = field.split('.')
            if name in ('residual', CHECKSUM):
                continue
            value = getattr(taught[name], quantity[0])
            if len(quantity) == 2:
                value = value[int(quantity[1])]
            if quantity == ['map'] and on_grid:
                value = resize_grid(value.float(), compared_on['grid'])
            arrays[field] = as_array(value)
        if 'residual.mask' not in self.dtype.names:
            return arrays, None
        target = self.distiller.loss_sd.target(
            taught['vit'].map,
            taught['cnn'].map,
            compared_on['grid'],
            compared_on['width'],
        )
        residual = as_array(target.residual.flatten(2))  # (B, C, positions)
        mask = as_array(target.mask.flatten(1)).astype(bool)
        arrays['residual.mask'] = np.packbits(mask, axis=1)
        return arrays, [r[:, m].T for r, m in zip(residual, mask)]


def as_array(tensor: Tensor) -> np.ndarray:
    """A tensor as NumPy, in float32."""
    return tensor.detach().float().cpu().numpy()
