"""On-disk cache of teacher outputs, one record per (sample, view).

Any number of processes may read a cache at once. The form of its files is
described in :mod:`~dtkd_mmaction.teachers.cache_format`.
"""

from typing import (
    Any,
    Dict,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor

from ..files import DamagedFileError
from ..version import __version__
from .cache_fingerprint import differences
from .cache_format import (
    CHECKSUM,
    FORMAT,
    MANIFEST,
    MAPS,
    all_shards,
    checksum,
    count_shards,
    format_of,
    length_of,
    present_shards,
    read_manifest,
    record_dtype,
    shard_of,
    shard_path,
    values_path,
)
from .open_shards import OpenShards

__all__ = ['MAPS', 'CachedRecording', 'CachedTap', 'TeacherCache']

# Roles of the teachers whose residual a masked cache keeps.
RESIDUAL_TEACHERS = ('vit', 'cnn')


class CachedTap(NamedTuple):
    """Shapes of a teacher's outputs, as a ``FeatureTap`` has them."""

    shapes: Dict[str, Union[tuple, List[tuple]]]
    embedding_width: int
    num_classes: int


class CachedRecording:
    """Outputs of one teacher from a cache, in place of a ``Recording``.

    Args:
        arrays (dict[str, Tensor or list[Tensor]]): Quantity -> (B, ...).
    """

    def __init__(self, arrays: Dict[str, Union[Tensor, List[Tensor]]]) -> None:
        self.__dict__.update(arrays)


class TeacherCache:
    """Reads a cache that ``tools/cache_teachers.py`` has written.

    Args:
        folder (str): The cache.
        teachers (dict[str, dict]): Name -> description
            (:func:`~.cache_fingerprint.describe_teacher`) of the teachers of
            the run. The cache may name them differently and hold others.

    Raises:
        FileNotFoundError: If there is no cache, or shards are missing.
        ValueError: If the manifest is damaged, or if the cache was made from
            other teachers; the message lists the differences.

    Attributes:
        names (dict[str, str]): Name in the run -> name in the cache.
        manifest (dict): ``samples``, ``views``, ``shard``, ``maps``,
            ``fields``, ``shapes``, and what the cache belongs to:
            ``teachers``, ``data``, and ``compared_on`` for what kept maps
            depend on besides the teachers.
        data_is_checked (bool): Whether the clips of the run were compared
            with those of the cache.
    """

    def __init__(self, folder: str, teachers: Dict[str, dict]) -> None:
        self.folder = folder
        try:
            self.manifest = read_manifest(folder)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'model.teacher_cache={folder!r} holds no {MANIFEST}. Write '
                'the cache with tools/cache_teachers.py.'
            ) from error
        except DamagedFileError as error:
            raise DamagedFileError(f'model.teacher_cache: {error}') from error
        self._check_complete()
        self.names = {
            name: self._find(name, description)
            for name, description in teachers.items()
        }
        self._note_versions()
        self.data_is_checked = False
        self._dtype = record_dtype(self.manifest['fields'])
        self._shards = OpenShards()

    @property
    def format(self) -> int:
        """Format in which the cache is written."""
        return format_of(self.manifest)

    def _check_complete(self) -> None:
        present = present_shards(self.folder, self.manifest)
        missing = count_shards(self.manifest) - len(present)
        if missing:
            example = next(
                shard
                for shard in all_shards(self.manifest)
                if shard not in present
            )
            raise FileNotFoundError(
                f'model.teacher_cache={self.folder!r} is incomplete: '
                f'{missing} shards are missing or cut short, such as '
                f'{shard_path(self.folder, example)}. Run '
                'tools/cache_teachers.py again; it writes what is missing.'
            )

    def _find(self, name: str, description: dict) -> str:
        """Returns the name that the cache gives to a teacher of the run."""
        held = self.manifest['teachers']
        found = {
            other: differences(
                held[other], self._with_tap_names(description, other), name
            )
            for other in sorted(held, key=lambda other: other != name)
        }
        for other, differing in found.items():
            if not differing:
                return other
        closest = min(found.values(), key=len)
        raise ValueError(
            f'model.teacher_cache={self.folder!r} was made from other '
            f'teachers than the {name} teacher of this config:\n'
            + '\n'.join(closest)
        )

    def _with_tap_names(self, description: dict, other: str) -> dict:
        """Replaces tap and stages that name what the cache chose itself."""
        names = self.manifest['shapes'][other].get('names', {})
        kept = self.manifest['teachers'][other]
        return {
            key: kept.get(key)
            if key in names and names[key] == value
            else value
            for key, value in description.items()
        }

    def _note_versions(self) -> None:
        """Logs one line if another version wrote the cache."""
        if self.format < FORMAT:
            print_log(
                f'model.teacher_cache={self.folder!r} is in format '
                f'{self.format}: its checksums do not notice exchanged '
                'files, and only some clips are compared. '
                'tools/cache_teachers.py writes a cache in format '
                f'{FORMAT} into an empty folder.',
                'current',
                level=30,
            )
        elif self.manifest.get('dtkd_mmaction') != __version__:
            print_log(
                f'model.teacher_cache={self.folder!r} was written by '
                f'dtkd_mmaction {self.manifest.get("dtkd_mmaction")}, this '
                f'is {__version__}. `tools/cache_teachers.py --verify 20` '
                'compares the teachers with it.',
                'current',
                level=30,
            )

    def tap(self, teacher: str) -> CachedTap:
        """Returns the shapes of a teacher's outputs."""
        found = self.manifest['shapes'][self.names[teacher]]
        return CachedTap(
            shapes={
                name: list(map(tuple, s)) if name == 'maps' else tuple(s)
                for name, s in found['tap'].items()
            },
            embedding_width=found['embedding_width'],
            num_classes=found['num_classes'],
        )

    def quantities(self, teacher: str) -> set:
        """Returns what it holds of a teacher: ``logits``, ``map``, ..."""
        own = self.names[teacher]
        held = {
            name.split('.')[1]
            for name in self.manifest['fields']
            if name.split('.')[0] == own
        }
        if self.manifest['maps'] == 'masked':
            # A residual is the difference of two teachers in their roles.
            if teacher == own and own in RESIDUAL_TEACHERS:
                held.add('compared_map')
        elif 'map' in held:
            held.add('compared_map')
            if self.manifest['maps'] == 'student_grid':
                held.remove('map')
        return held

    def read(
        self, keys: Sequence[Tuple[int, int]], device: torch.device
    ) -> Dict[str, CachedRecording]:
        """Returns the records of a batch, by teacher.

        Args:
            keys (Sequence[tuple[int, int]]): B times (sample, view).
            device (torch.device): Device of the tensors.

        Returns:
            dict[str, CachedRecording]: Outputs of every teacher of the run,
                in float32.
        """
        if not self.data_is_checked:
            raise RuntimeError(
                '`model.teacher_cache` was not validated against the '
                "dataset. Add dict(type='TeacherCacheHook') to custom_hooks."
            )
        records = self.records(keys)
        arrays: Dict[str, Dict[str, Any]] = {
            own: {} for own in self.names.values()
        }
        for field in self.manifest['fields']:
            teacher, quantity, *stage = field.split('.')
            if teacher not in arrays:
                continue  # the residual, or a teacher of other runs
            tensor = torch.from_numpy(records[field].copy())
            tensor = tensor.to(device).float()
            if stage:
                arrays[teacher].setdefault(quantity, []).append(tensor)
            else:
                arrays[teacher][quantity] = tensor
        return {
            name: CachedRecording(arrays[own])
            for name, own in self.names.items()
        }

    def records(self, keys: Sequence[Tuple[int, int]]) -> np.ndarray:
        """Returns records as they are on disk, (B,)."""
        return np.concatenate([self._record(*key)[0] for key in keys])

    def read_residual(
        self, keys: Sequence[Tuple[int, int]], device: torch.device
    ) -> Tuple[Tensor, Tensor]:
        """Returns residual and mask of a masked cache.

        Args:
            keys (Sequence[tuple[int, int]]): B times (sample, view).
            device (torch.device): Device of the tensors.

        Returns:
            tuple[Tensor, Tensor]: Residual (B, C, T, H, W), which is 0 where
                the mask is, and the mask (B, 1, T, H, W).
        """
        grid = self.manifest['compared_on']['grid']
        positions = int(np.prod(grid))
        masks, residuals = [], []
        for key in keys:
            record, values = self._record(*key)
            assert values is not None  # because the cache is masked
            mask = np.unpackbits(record['residual.mask'][0], count=positions)
            residual = np.zeros((values.shape[1], positions), values.dtype)
            residual[:, mask.astype(bool)] = values.T
            masks.append(mask)
            residuals.append(residual)
        mask = torch.from_numpy(np.stack(masks)).to(device).bool()
        residual = torch.from_numpy(np.stack(residuals)).to(device).float()
        return residual.unflatten(2, grid), mask[:, None].unflatten(2, grid)

    def _record(
        self, sample: int, view: int
    ) -> Tuple[np.ndarray, Optional[np.ndarray]]:
        """Reads one record and compares its checksum.

        Returns:
            tuple[np.ndarray, np.ndarray or None]: Array of length 1, and the
                kept residuals (count, C) of a masked cache.

        Raises:
            KeyError: If the cache has no such view or sample.
            ValueError: If the record is damaged or belongs elsewhere.
            OSError: If the file cannot be read at the moment.
        """
        samples, views = self.manifest['samples'], self.manifest['views']
        if not (0 <= sample < samples and 0 <= view < views):
            raise KeyError(
                f'model.teacher_cache={self.folder!r} holds {views} views of '
                f'{samples} samples, not view {view} of sample {sample}.'
            )
        shard = shard_of(self.manifest, sample, view)
        path = shard_path(self.folder, shard)
        length = length_of(self.manifest, shard)
        try:
            records = self._shards.get(path, (length,), self._dtype)
            row = sample - shard.first
            record, values = np.array(records[row : row + 1]), None
            if 'residual.first' in self.manifest['fields']:
                values = self._residuals(record, path)
        except DamagedFileError as error:
            raise self._damage(path, sample, view, str(error)) from error
        if record[CHECKSUM][0] == 0 and self.format > 1:
            raise self._damage(
                path, sample, view, 'the clip could not be read at that time'
            )
        found = checksum(self.manifest, (sample, view), record, values)
        if found != record[CHECKSUM][0]:
            raise self._damage(
                path,
                sample,
                view,
                'its checksum differs: the file was altered, or it belongs '
                'to another view, other samples or another cache',
            )
        return record, values

    def _residuals(self, record: np.ndarray, path: str) -> np.ndarray:
        first = int(record['residual.first'][0])
        count = int(record['residual.count'][0])
        values = self._shards.get(values_path(path), (None, None), None)
        if not 0 <= first <= first + count <= len(values):
            raise DamagedFileError(
                f'{values_path(path)} has {len(values)} rows, the record '
                f'needs rows {first} to {first + count}'
            )
        return np.array(values[first : first + count])

    def _damage(
        self, path: str, sample: int, view: int, reason: str
    ) -> ValueError:
        return DamagedFileError(
            f'model.teacher_cache: view {view} of sample {sample} in {path} '
            f'is damaged: {reason.rstrip(".")}. Delete the file and run '
            'tools/cache_teachers.py again; it writes what is missing.'
        )
