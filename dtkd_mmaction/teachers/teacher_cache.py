"""What frozen teachers said of keyed views, kept on disk.

A cache is a folder::

    manifest.json            what it belongs to and what a record looks like
    view_000/000000.npy      records of samples 0 to 255, view 0
    view_000/000000.values.npy    the kept residuals, in a masked cache

A shard is a structured NumPy array, memory-mapped by any number of readers.
It is written beside its place and moved there, so it is whole or absent, and
every record carries a checksum.
"""

import json
import os
import os.path as osp
import zlib
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from .cache_fingerprint import differences

MANIFEST = 'manifest.json'
# How the teachers' last maps are kept: as they are; on the grid on which
# loss_sd compares them; or only their residual, where the masks keep it.
MAPS = ('native', 'student_grid', 'masked')
CHECKSUM = 'crc32'


class CachedTap(NamedTuple):
    """A teacher's shapes, as its tap would tell them."""

    shapes: Dict[str, Union[tuple, List[tuple]]]
    embedding_width: int
    num_classes: int


class CachedRecording:
    """What a cache holds of one teacher's forward, as a ``Recording`` has it.

    Args:
        arrays (dict[str, Tensor or list[Tensor]]): Quantity -> (B, ...).
    """

    def __init__(self, arrays: Dict[str, Union[Tensor, List[Tensor]]]) -> None:
        self.__dict__.update(arrays)


def record_dtype(fields: Dict[str, Tuple[str, Sequence[int]]]) -> np.dtype:
    """A record: its fields (name -> dtype, shape) and a checksum."""
    return np.dtype(
        [
            *((name, d, tuple(shape)) for name, (d, shape) in fields.items()),
            (CHECKSUM, '<u4'),
        ]
    )


def checksum(record: np.ndarray, values: Optional[np.ndarray] = None) -> int:
    """Of a record (a slice of length 1) and of its ragged values."""
    size = record.dtype.itemsize - record.dtype[CHECKSUM].itemsize
    found = zlib.crc32(record.view(np.uint8)[:size])
    return found if values is None else zlib.crc32(values.tobytes(), found)


def shard_path(folder: str, view: int, first: int) -> str:
    """File of the shard that begins with a sample."""
    return osp.join(folder, f'view_{view:03d}', f'{first:06d}.npy')


def values_path(path: str) -> str:
    """File of a shard's ragged values."""
    return path[: -len('.npy')] + '.values.npy'


def save_atomically(path: str, array: np.ndarray) -> None:
    """``np.save``; the file is there as a whole or not at all."""
    os.makedirs(osp.dirname(path), exist_ok=True)
    temporary = f'{path}.{os.getpid()}.writing'
    with open(temporary, 'wb') as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


class TeacherCache:
    """Reads a cache that ``tools/cache_teachers.py`` has written.

    Args:
        folder (str): The cache.
        teachers (dict[str, dict]): Name -> description
            (:func:`~.cache_fingerprint.describe_teacher`) of the run's
            teachers. The cache may call them differently and hold others.

    Raises:
        FileNotFoundError: If there is none, or shards are missing.
        ValueError: If it was made of other teachers; says what differs.

    Attributes:
        manifest (dict): ``samples``, ``views``, ``shard``, ``maps``,
            ``fields``, ``shapes`` and ``teachers``, ``data``,
            ``compared_on``: what it belongs to.
        data_is_checked (bool): Whether the run's data were compared.
    """

    def __init__(self, folder: str, teachers: Dict[str, dict]) -> None:
        self.folder = folder
        try:
            with open(osp.join(folder, MANIFEST)) as file:
                self.manifest = json.load(file)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'model.teacher_cache={folder!r} holds no {MANIFEST}: make '
                'it with tools/cache_teachers.py.'
            ) from error
        missing = missing_shards(folder, self.manifest)
        if missing:
            raise FileNotFoundError(
                f'model.teacher_cache={folder!r} is incomplete: '
                f'{len(missing)} shards are missing, such as {missing[0]}. '
                'Run tools/cache_teachers.py again, it goes on.'
            )
        self.data_is_checked = False
        self._names = {
            name: self._find(name, description)
            for name, description in teachers.items()
        }
        self._dtype = record_dtype(self.manifest['fields'])
        self._shards: Dict[str, np.ndarray] = {}

    def _find(self, name: str, description: dict) -> str:
        """What the cache calls a teacher of the run."""
        held = self.manifest['teachers']
        found = {
            other: differences(held[other], description, name)
            for other in sorted(held, key=lambda other: other != name)
        }
        for other, differing in found.items():
            if not differing:
                return other
        closest = min(found.values(), key=len)
        raise ValueError(
            f'model.teacher_cache={self.folder!r} was made of other '
            f'teachers than the {name} teacher of this config:\n'
            + '\n'.join(closest)
        )

    def tap(self, teacher: str) -> CachedTap:
        """A teacher's shapes."""
        found = self.manifest['shapes'][self._names[teacher]]
        return CachedTap(
            shapes={
                name: list(map(tuple, s)) if name == 'maps' else tuple(s)
                for name, s in found['tap'].items()
            },
            embedding_width=found['embedding_width'],
            num_classes=found['num_classes'],
        )

    def quantities(self, teacher: str) -> set:
        """What it holds of a teacher: ``logits``, ``embedding``, ..."""
        held = {
            name.split('.')[1]
            for name in self.manifest['fields']
            if name.split('.')[0] == self._names[teacher]
        }
        if self.manifest['maps'] == 'masked':
            return held | {'compared_map'}
        if 'map' in held:
            held.add('compared_map')
            if self.manifest['maps'] == 'student_grid':
                held.remove('map')
        return held

    def read(
        self, keys: Sequence[Tuple[int, int]], device: torch.device
    ) -> Dict[str, CachedRecording]:
        """Records of a batch, by teacher.

        Args:
            keys (Sequence[tuple[int, int]]): B times (sample, view).
            device (torch.device): Where the tensors are wanted.

        Returns:
            dict[str, CachedRecording]: Of every teacher, in float32.
        """
        if not self.data_is_checked:
            raise RuntimeError(
                'Nobody has compared model.teacher_cache with the data: add '
                "dict(type='TeacherCacheHook') to custom_hooks."
            )
        records = self.records(keys)
        arrays: Dict[str, Dict[str, Union[Tensor, list]]] = {}
        for name in self.manifest['fields']:
            teacher, quantity, *stage = name.split('.')
            if teacher == 'residual':
                continue
            tensor = torch.from_numpy(records[name].copy())
            tensor = tensor.to(device).float()
            found = arrays.setdefault(teacher, {})
            if stage:
                found.setdefault(quantity, []).append(tensor)
            else:
                found[quantity] = tensor
        return {
            name: CachedRecording(arrays[other])
            for name, other in self._names.items()
        }

    def records(self, keys: Sequence[Tuple[int, int]]) -> np.ndarray:
        """Records as they are on disk, (B,)."""
        return np.concatenate([self._record(*key) for key in keys])

    def read_residual(
        self, keys: Sequence[Tuple[int, int]], device: torch.device
    ) -> Tuple[Tensor, Tensor]:
        """Residual and mask of a masked cache.

        Args:
            keys (Sequence[tuple[int, int]]): B times (sample, view).
            device (torch.device): Where the tensors are wanted.

        Returns:
            tuple[Tensor, Tensor]: Residual (B, C, T, H, W), 0 where the mask
                is, and the mask (B, 1, T, H, W).
        """
        grid = self.manifest['compared_on']['grid']
        positions = int(np.prod(grid))
        masks, residuals = [], []
        for key in keys:
            record = self._record(*key)
            mask = np.unpackbits(record['residual.mask'][0], count=positions)
            values = self._values(record, *key)
            residual = np.zeros((values.shape[1], positions), values.dtype)
            residual[:, mask.astype(bool)] = values.T
            masks.append(mask)
            residuals.append(residual)
        mask = torch.from_numpy(np.stack(masks)).to(device).bool()
        residual = torch.from_numpy(np.stack(residuals)).to(device).float()
        return residual.unflatten(2, grid), mask[:, None].unflatten(2, grid)

    def _place(self, index: int, view: int) -> Tuple[str, int]:
        samples, views = self.manifest['samples'], self.manifest['views']
        if not (0 <= index < samples and 0 <= view < views):
            raise KeyError(
                f'model.teacher_cache={self.folder!r} holds {views} views of '
                f'{samples} samples, not view {view} of sample {index}.'
            )
        row = index % self.manifest['shard']
        return shard_path(self.folder, view, index - row), row

    def _map(self, path: str) -> np.ndarray:
        if path not in self._shards:
            self._shards[path] = np.load(path, mmap_mode='r')
        return self._shards[path]

    def _values(self, record: np.ndarray, index: int, view: int) -> np.ndarray:
        first = int(record['residual.first'][0])
        count = int(record['residual.count'][0])
        values = self._map(values_path(self._place(index, view)[0]))
        return np.array(values[first : first + count])

    def _record(self, index: int, view: int) -> np.ndarray:
        """One record, as an array of length 1.

        Raises:
            ValueError: If it is damaged.
        """
        path, row = self._place(index, view)
        try:
            shard = self._map(path)
            if shard.dtype != self._dtype:
                raise ValueError(f'its records are {shard.dtype}')
            record = np.array(shard[row : row + 1])
            values = (
                self._values(record, index, view)
                if 'residual.first' in self._dtype.names
                else None
            )
        except (OSError, ValueError, IndexError) as error:
            raise ValueError(self._damage(path, index, view, error)) from error
        if checksum(record, values) != record[CHECKSUM][0]:
            raise ValueError(
                self._damage(path, index, view, 'its checksum differs')
            )
        return record

    def _damage(self, path: str, index: int, view: int, why: object) -> str:
        return (
            f'model.teacher_cache: view {view} of sample {index} in {path} '
            f'is damaged ({why}). Delete the file and run '
            'tools/cache_teachers.py again, it writes what is missing.'
        )


def missing_shards(folder: str, manifest: dict) -> List[str]:
    """Files of a cache that are not there yet."""
    missing = []
    for view in range(manifest['views']):
        for first in range(0, manifest['samples'], manifest['shard']):
            path = shard_path(folder, view, first)
            parts = [path]
            if manifest['maps'] == 'masked':
                parts.append(values_path(path))
            if not all(map(osp.isfile, parts)):
                missing.append(path)
    return missing
