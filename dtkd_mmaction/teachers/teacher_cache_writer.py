"""Runs frozen teachers once over keyed views and stores their outputs."""

import os
import os.path as osp
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor
from torch.utils.data import DataLoader

from ..datasets.keyed_views import KeyedViewDataset
from ..files import clear_left_overs, write_array, write_json
from ..modules.grid import resize_grid
from ..recognizers.data_samples import view_keys
from ..recognizers.recording import EXTRAS, Recording
from ..version import __version__
from .cache_fingerprint import as_json, describe_data, differences
from .cache_format import (
    CHECKSUM,
    FORMAT,
    MANIFEST,
    NOT_IDENTIFYING,
    Shard,
    all_shards,
    checksum,
    format_of,
    identity_of,
    length_of,
    present_shards,
    read_manifest,
    record_dtype,
    shard_path,
    values_path,
    view_folders,
)
from .protocol import ModelWithTeachers
from .record_layout import DTYPES, RecordLayout
from .teacher_cache import TeacherCache

__all__ = ['DTYPES', 'RecordLayout', 'TeacherCacheWriter']


class TeacherCacheWriter:
    """Writes the shards of a cache that do not exist yet.

    Args:
        distiller (ModelWithTeachers): Built from the config, without a
            cache, on the device to use.
        dataset (KeyedViewDataset): The training set.
        dataset_config (dict): ``train_dataloader.dataset``.
        folder (str): The cache. An incomplete one is continued.
        views (int): Views of every sample.
        maps, dtype, also: Arguments of :class:`RecordLayout`.
        shard (int): Samples per file; an interruption loses at most one
            file. Defaults to 256.

    Raises:
        ValueError: If the losses read something that cannot be kept, if the
            teachers draw random numbers, or if the folder holds another
            cache.
    """

    def __init__(
        self,
        distiller: ModelWithTeachers,
        dataset: KeyedViewDataset,
        dataset_config: dict,
        folder: str,
        views: int,
        maps: str = 'student_grid',
        dtype: str = 'float16',
        shard: int = 256,
        also: Sequence[str] = (),
    ) -> None:
        if distiller.teacher_mode != 'eval':
            raise ValueError(
                f'model.teacher_mode={distiller.teacher_mode!r}: the outputs '
                "of such teachers are random. A cache needs 'eval'."
            )
        for name, value in (('views', views), ('shard', shard)):
            if value < 1:
                raise ValueError(f'{name}={value}: give 1 or more.')
        self.distiller = distiller
        self.dataset = dataset
        self.folder = folder
        if distiller.has_open_view():
            sample = pseudo_collate([dataset[0, 0]])
            distiller.fit_taps(distiller.data_preprocessor(sample)['inputs'])
        self.layout = RecordLayout(distiller, maps, dtype, also)
        kept = self._kept_manifest()
        self.manifest = self._make_manifest(
            format_of(kept) if kept else FORMAT,
            dataset_config,
            views=views,
            shard=shard,
            maps=maps,
        )
        if kept:
            self._check_same(kept)
            # Keeps the order of the fields.
            self.manifest['fields'] = kept['fields']
        self.dtype = record_dtype(self.manifest['fields'])

    def _kept_manifest(self) -> Optional[Dict[str, Any]]:
        try:
            return read_manifest(self.folder)
        except FileNotFoundError:
            return None

    def _make_manifest(
        self, cache_format: int, dataset_config: dict, **options: Any
    ) -> Dict[str, Any]:
        taps = {n: t.tap for n, t in self.distiller.teachers.items()}
        manifest = dict(
            dtkd_mmaction=__version__,
            samples=len(self.dataset),
            fields=self.layout.fields,
            teachers=self.distiller.describe_teachers(),
            data=describe_data(self.dataset, dataset_config, cache_format),
            compared_on=self.layout.map_options,
            shapes={
                name: dict(
                    tap=tap.shapes,
                    embedding_width=tap.embedding_width,
                    num_classes=tap.num_classes,
                )
                for name, tap in taps.items()
            },
            **options,
        )
        if cache_format > 1:
            manifest['format'] = cache_format
            for name, tap in taps.items():
                manifest['shapes'][name]['names'] = dict(
                    tap=tap.module_name,
                    stages=tap.stage_names,
                    stem=tap.stem_name,
                )
            manifest = as_json(manifest)
            manifest['identity'] = identity_of(manifest)
        return as_json(manifest)

    def _check_same(self, kept: Dict[str, Any]) -> None:
        """Raises if the folder holds another cache."""
        ours, theirs = (
            {k: v for k, v in m.items() if k not in NOT_IDENTIFYING}
            for m in (self.manifest, kept)
        )
        found = differences(theirs, ours)
        if found:
            raise ValueError(
                f'{self.folder} holds another cache:\n'
                + '\n'.join(found)
                + '\nGive another folder, or delete this one.'
            )

    def todo(self) -> List[Shard]:
        """Lists the shards that do not exist yet."""
        present = present_shards(self.folder, self.manifest)
        return [s for s in all_shards(self.manifest) if s not in present]

    def count_clips(self, shards: Sequence[Shard]) -> int:
        """Returns the number of records in some shards."""
        return sum(length_of(self.manifest, shard) for shard in shards)

    def begin(self) -> None:
        """Writes the manifest and removes files of killed processes."""
        os.makedirs(self.folder, exist_ok=True)
        for folder in (self.folder, *view_folders(self.folder)):
            clear_left_overs(folder)
        write_json(osp.join(self.folder, MANIFEST), self.manifest)

    def write(
        self, shards: Sequence[Shard], batch_size: int, num_workers: int = 0
    ) -> Iterator[int]:
        """Writes shards, batch by batch.

        Args:
            shards (Sequence[Shard]): Some of :meth:`todo`.
            batch_size (int): Clips per forward pass.
            num_workers (int): Processes that decode. Defaults to 0.

        Yields:
            int: Clips of one batch.

        Raises:
            OSError: If a file cannot be written, with its name and the space
                that it needs. Files that exist already stay.
        """
        batches = []
        for view, first in shards:
            end = first + length_of(self.manifest, Shard(view, first))
            keys = [(sample, view) for sample in range(first, end)]
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
            found, kept = self._records(data, wanted, sum(map(len, values)))
            records.append(found)
            values.extend(kept)
            following = wanted[-1][0] + 1
            if following == self.manifest['samples'] or (
                following % self.manifest['shard'] == 0
            ):
                path = shard_path(self.folder, next(remaining))
                if values:
                    write_array(values_path(path), np.concatenate(values))
                write_array(path, np.concatenate(records))
                records, values = [], []
            yield len(wanted)

    def try_out(self, count: int) -> None:
        """Computes some records and drops them, to measure the time."""
        keys = [(i % len(self.dataset), 0) for i in range(count)]
        self._records(
            pseudo_collate([self.dataset[key] for key in keys]), keys, 0
        )

    def distances(
        self, cache: TeacherCache, keys: Sequence[Tuple[int, int]]
    ) -> Dict[str, float]:
        """Compares the outputs of the teachers now with those in a cache.

        Args:
            cache (TeacherCache): A complete one.
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
            live, _ = self._records(data, [key], 0)
            for field in self.manifest['fields']:
                if field.split('.')[0] != 'residual':
                    a, b = (r[field].astype(np.float32) for r in (kept, live))
                    distance = float(abs(a - b).max() / abs(b).max())
                    found[field] = max(found.get(field, 0), distance)
        return found

    def _records(
        self, data: dict, wanted: List[Tuple[int, int]], first: int
    ) -> Tuple[np.ndarray, List[np.ndarray]]:
        """Computes the records of one batch.

        Args:
            data (dict): Batch of the data loader.
            wanted (list[tuple[int, int]]): Samples and views asked for.
            first (int): Rows of kept residuals before this batch.

        Returns:
            tuple[np.ndarray, list[np.ndarray]]: Records (B,), and the kept
                residuals of each.
        """
        distiller = self.distiller
        with torch.no_grad():
            batch = distiller.data_preprocessor(data)
            clips, samples = batch['inputs'], batch['data_samples']
            outputs = {
                name: distiller.teachers[name](
                    clips, quantities.intersection(EXTRAS)
                )
                for name, quantities in self.layout.needed.items()
            }
            arrays, residuals = self._arrays(outputs)
        records = np.zeros(len(wanted), self.dtype)
        for name, array in arrays.items():
            with np.errstate(over='ignore'):
                records[name] = array
            if not np.isfinite(records[name]).all():
                raise ValueError(
                    f'{name} does not fit into {self.dtype[name].base}: use '
                    '--dtype float32. If that does not help, the teacher '
                    'returns NaN.'
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
            # In place of an unreadable clip, the data set returns a view of
            # another one, which has its own record. This record keeps the
            # checksum 0, because no run asks for it.
            if key == wanted[row]:
                records[CHECKSUM][row] = checksum(
                    self.manifest, key, records[row : row + 1], kept
                )
        return records, values

    def _arrays(
        self, outputs: Dict[str, Recording]
    ) -> Tuple[Dict[str, np.ndarray], Optional[List[np.ndarray]]]:
        """Returns field -> (B, ...), and kept residuals (count, C)."""
        arrays: Dict[str, Any] = {}
        map_options = self.layout.map_options
        on_grid = self.manifest['maps'] == 'student_grid'
        fields = self.manifest['fields']
        for field in fields:
            name, *quantity = field.split('.')
            if name == 'residual':
                continue
            value = getattr(outputs[name], quantity[0])
            if len(quantity) == 2:
                value = value[int(quantity[1])]
            if quantity == ['map'] and on_grid:
                value = resize_grid(value.float(), map_options['grid'])
            arrays[field] = as_array(value)
        if 'residual.mask' not in fields:
            return arrays, None
        target = self.distiller.loss_sd.target(
            outputs['vit'].map,
            outputs['cnn'].map,
            map_options['grid'],
            map_options['width'],
        )
        residual = as_array(target.residual.flatten(2))  # (B, C, positions)
        mask = as_array(target.mask.flatten(1)).astype(bool)
        arrays['residual.mask'] = np.packbits(mask, axis=1)
        return arrays, [r[:, m].T for r, m in zip(residual, mask)]


def as_array(tensor: Tensor) -> np.ndarray:
    """Converts a tensor to NumPy, in float32."""
    return tensor.detach().float().cpu().numpy()
