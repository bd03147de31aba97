"""Files of a teacher cache: manifest, shards, records and their checksums.

A cache is a folder::

    manifest.json                 what the cache belongs to, form of a record
    view_000/000000.npy           records of samples 0 to 255, view 0
    view_000/000000.values.npy    the kept residuals, in a masked cache

A shard is a structured NumPy array. Every record ends with a checksum.
"""

import hashlib
import json
import math
import os
import os.path as osp
import zlib
from typing import (
    Any,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

import numpy as np

from ..files import DamagedFileError, read_json

MANIFEST = 'manifest.json'
# Format 1 has no `format`, `identity` and tap names in its manifest, and its
# checksums cover the numbers of a record alone.
FORMAT = 2
# How the last maps of the teachers are kept: as they are; on the grid on
# which loss_sd compares them; or only their residual, where the masks keep
# it.
MAPS = ('native', 'student_grid', 'masked')
CHECKSUM = 'crc32'
FIELD_TYPES = ('<f2', '<f4', '|u1', '<i4', '<i8')
# Key -> type in a manifest.
MANIFEST_KEYS: Dict[str, Any] = dict(
    samples=int,
    views=int,
    shard=int,
    maps=str,
    fields=dict,
    teachers=dict,
    data=dict,
    shapes=dict,
)
# What may change while a cache is being written.
NOT_IDENTIFYING = ('identity', 'dtkd_mmaction')


class Shard(NamedTuple):
    """One file of records.

    Attributes:
        view (int): View of all its records.
        first (int): Sample of its first record.
    """

    view: int
    first: int


def read_manifest(folder: str) -> Dict[str, Any]:
    """Reads and checks the manifest of a cache.

    Args:
        folder (str): The cache.

    Raises:
        FileNotFoundError: If there is none.
        DamagedFileError: If it is damaged, was edited, or has another form
            than this version reads.
    """
    path = osp.join(folder, MANIFEST)
    manifest = read_json(path, keys=MANIFEST_KEYS)
    for key, kind in MANIFEST_KEYS.items():
        value = manifest[key]
        if not isinstance(value, kind) or (kind is int and not value >= 1):
            expected = 'a number of 1 or more' if kind is int else kind
            raise DamagedFileError(
                f'{path}: {key}={value!r}, expected {expected}.'
            )
    if format_of(manifest) not in range(1, FORMAT + 1):
        raise DamagedFileError(
            f'{path}: format={manifest["format"]!r}. This version of '
            f'dtkd_mmaction reads formats 1 to {FORMAT}. Install the version '
            'that wrote the cache, or write a new one with '
            'tools/cache_teachers.py.'
        )
    if manifest['maps'] not in MAPS:
        raise DamagedFileError(
            f'{path}: maps={manifest["maps"]!r}, expected one of {MAPS}.'
        )
    check_fields(path, manifest)
    if format_of(manifest) > 1 and manifest.get('identity') != identity_of(
        manifest
    ):
        raise DamagedFileError(
            f'{path} was changed after the cache was written: its content '
            'does not fit its `identity`. Restore it, or write the cache '
            'again with tools/cache_teachers.py.'
        )
    return manifest


def check_fields(path: str, manifest: Dict[str, Any]) -> None:
    """Raises if records or shapes in a manifest have another form."""
    try:
        for dtype, shape in manifest['fields'].values():
            if dtype not in FIELD_TYPES:
                raise ValueError(f'type {dtype!r}')
            if not all(isinstance(n, int) and n >= 0 for n in shape):
                raise ValueError(f'shape {shape!r}')
        record_dtype(manifest['fields'])
        for name in manifest['teachers']:
            found = manifest['shapes'][name]
            if not (
                isinstance(found['tap'], dict)
                and isinstance(found['embedding_width'], int)
                and isinstance(found['num_classes'], int)
            ):
                raise ValueError(f'shapes of the {name} teacher')
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedFileError(
            f'{path}: `fields` or `shapes` is not what '
            f'tools/cache_teachers.py writes: {type(error).__name__}: {error}.'
        ) from error


def format_of(manifest: Dict[str, Any]) -> int:
    """Returns the format in which a cache is written."""
    return manifest.get('format', 1)


def identity_of(manifest: Dict[str, Any]) -> str:
    """Returns a hash of everything that makes two caches different."""
    content = {k: v for k, v in manifest.items() if k not in NOT_IDENTIFYING}
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def record_dtype(fields: Dict[str, Tuple[str, Sequence[int]]]) -> np.dtype:
    """Returns the type of a record.

    Args:
        fields (dict[str, tuple]): Name -> dtype, shape.

    Returns:
        np.dtype: The fields, and a checksum as the last one.
    """
    return np.dtype(
        [
            *((name, d, tuple(shape)) for name, (d, shape) in fields.items()),
            (CHECKSUM, '<u4'),
        ]
    )


def checksum(
    manifest: Dict[str, Any],
    key: Tuple[int, int],
    record: np.ndarray,
    values: Optional[np.ndarray] = None,
) -> int:
    """Computes the checksum of a record.

    It covers the cache, the sample and the view, so a record in the place of
    another one is noticed. It is never 0, which marks a clip that could not
    be read.

    Args:
        manifest (dict): Manifest of the cache.
        key (tuple[int, int]): Sample and view.
        record (np.ndarray): Array of length 1.
        values (np.ndarray, optional): Kept residuals of the record.
    """
    found = 0
    if format_of(manifest) > 1:
        text = f'{manifest["identity"]} {key[0]} {key[1]}'
        found = zlib.crc32(text.encode())
    size = record.dtype.itemsize - record.dtype[CHECKSUM].itemsize
    found = zlib.crc32(record.view(np.uint8)[:size].data, found)
    if values is not None:
        found = zlib.crc32(np.ascontiguousarray(values).data, found)
    return found if found or format_of(manifest) == 1 else 1


def shard_path(folder: str, shard: Shard) -> str:
    """Returns the file of a shard."""
    view, first = shard
    return osp.join(folder, f'view_{view:03d}', f'{first:06d}.npy')


def values_path(path: str) -> str:
    """Returns the file of a shard's kept residuals."""
    return path[: -len('.npy')] + '.values.npy'


def shard_of(manifest: Dict[str, Any], sample: int, view: int) -> Shard:
    """Returns the shard that holds a view of a sample."""
    return Shard(view, sample - sample % manifest['shard'])


def length_of(manifest: Dict[str, Any], shard: Shard) -> int:
    """Returns the number of records in a shard."""
    return min(manifest['shard'], manifest['samples'] - shard.first)


def all_shards(manifest: Dict[str, Any]) -> Iterator[Shard]:
    """Yields the shards of a complete cache, view by view."""
    for view in range(manifest['views']):
        for first in range(0, manifest['samples'], manifest['shard']):
            yield Shard(view, first)


def count_shards(manifest: Dict[str, Any]) -> int:
    """Returns the number of shards of a complete cache."""
    return manifest['views'] * math.ceil(
        manifest['samples'] / manifest['shard']
    )


def view_folders(folder: str) -> List[str]:
    """Lists the folders of views that exist."""
    if not osp.isdir(folder):
        return []
    with os.scandir(folder) as entries:
        return [
            entry.path
            for entry in entries
            if entry.name.startswith('view_') and entry.is_dir()
        ]


def present_shards(folder: str, manifest: Dict[str, Any]) -> Set[Shard]:
    """Finds the shards whose files exist and are not cut short.

    It reads directories only, so the number of shards in a manifest does not
    matter.
    """
    itemsize = record_dtype(manifest['fields']).itemsize
    found = set()
    for view_folder in view_folders(folder):
        with os.scandir(view_folder) as entries:
            sizes = {e.name: e.stat().st_size for e in entries if e.is_file()}
        for name, size in sizes.items():
            try:
                shard = Shard(
                    int(osp.basename(view_folder)[len('view_') :]),
                    int(name[: -len('.npy')]),
                )
            except ValueError:
                continue  # residuals, or no file of a cache
            is_whole = size > length_of(manifest, shard) * itemsize
            if manifest['maps'] == 'masked':
                is_whole = is_whole and bool(sizes.get(values_path(name)))
            path = osp.join(view_folder, name)
            if (
                is_whole
                and is_in(manifest, shard)
                and path == shard_path(folder, shard)
            ):
                found.add(shard)
    return found


def is_in(manifest: Dict[str, Any], shard: Shard) -> bool:
    """Returns whether a shard belongs to the cache."""
    return (
        0 <= shard.view < manifest['views']
        and 0 <= shard.first < manifest['samples']
        and shard.first % manifest['shard'] == 0
    )
