"""Embeddings of clips, computed once and stored in a folder."""

import hashlib
import json
import os.path as osp
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader, Dataset

from dtkd_mmaction.files import (
    DamagedFileError,
    read_arrays,
    write_arrays,
)

# (index of the clip, number of the view)
Key = Tuple[int, int]
# Clips per file; a killed run computes at most this many again.
SHARD = 64


class KeyedClips(Dataset):
    """Returns a chosen view of a clip, or None if it cannot be read.

    Args:
        dataset: A ``KeyedViewDataset``, or a data set without randomness.
        keys (Sequence[Key]): The clips and views, in order.
        keyed (bool): Whether ``dataset`` takes keys.
    """

    def __init__(self, dataset: Any, keys: Sequence[Key], keyed: bool):
        self.dataset = dataset
        self.keys = keys
        self.keyed = keyed

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, position: int) -> Any:
        key = self.keys[position]
        if not self.keyed:
            return self.dataset[key[0]]
        data = self.dataset[key]
        # The data set replaces an unreadable clip by another one; it is
        # ignored.
        index = data['data_samples'].metainfo['sample_idx']
        return data if index == key[0] else None


class EmbeddingStore:
    """Embeddings in a folder, one file for every few clips.

    Files have checksums and are written atomically, so a killed run continues.

    Args:
        folder (str): Folder with one subfolder per description.
        description (dict): All that the embeddings depend on. Each description
            has its own subfolder.
    """

    def __init__(self, folder: str, description: Dict[str, Any]) -> None:
        text = json.dumps(description, sort_keys=True, default=str)
        self.digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.folder = osp.join(folder, self.digest)

    def _path(self, keys: Sequence[Key]) -> str:
        text = json.dumps(keys)
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        return osp.join(self.folder, f'{name}.npz')

    def _read(self, path: str) -> Dict[str, np.ndarray]:
        arrays, _ = read_arrays(path)
        return arrays

    def missing(self, keys: Sequence[Key]) -> List[List[Key]]:
        """Returns the shards of keys that are not stored yet, or damaged."""
        found = []
        for shard in in_shards(keys):
            try:
                self._read(self._path(shard))
            except (FileNotFoundError, DamagedFileError):
                found.append(shard)
        return found

    def compute(
        self,
        shards: Sequence[List[Key]],
        embed: Callable[[Dict[str, Any]], torch.Tensor],
        dataset: Any,
        keyed: bool,
        batch_size: int,
        workers: int,
    ) -> Iterator[int]:
        """Computes and stores embeddings.

        Args:
            shards (Sequence[list[Key]]): From :meth:`missing`.
            embed (callable): A collated batch -> (B, R, D).
            dataset, keyed: See :class:`KeyedClips`.
            batch_size (int): Clips per forward pass.
            workers (int): Processes that decode.

        Yields:
            int: Clips that were just done.
        """
        keys = [key for shard in shards for key in shard]
        batches, start = [], 0
        for shard in shards:
            end = start + len(shard)
            batches += [
                list(range(first, min(first + batch_size, end)))
                for first in range(start, end, batch_size)
            ]
            start = end
        loader = DataLoader(
            KeyedClips(dataset, keys, keyed),
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=list,
        )
        remaining = iter(shards)
        shard = next(remaining, [])
        rows: List[np.ndarray] = []
        readable: List[bool] = []
        for items in loader:
            found = [item for item in items if item is not None]
            if found:
                rows.extend(embed(pseudo_collate(found)).cpu().numpy())
            readable.extend(item is not None for item in items)
            if len(readable) == len(shard):
                self._write(shard, rows, readable)
                shard, rows, readable = next(remaining, []), [], []
            yield len(items)

    def _write(
        self, shard: List[Key], rows: List[np.ndarray], readable: List[bool]
    ) -> None:
        embeddings = np.stack(rows) if rows else np.zeros((0, 1, 1), 'f4')
        write_arrays(
            self._path(shard),
            dict(embeddings=embeddings, readable=np.array(readable)),
            dict(keys=shard),
        )

    def read(self, keys: Sequence[Key]) -> Tuple[np.ndarray, List[Key]]:
        """Reads stored embeddings.

        Returns:
            tuple[np.ndarray, list[Key]]: (n, R, D), and the keys of the n
                clips that could be read.
        """
        embeddings, found = [], []
        for shard in in_shards(keys):
            arrays = self._read(self._path(shard))
            if arrays['readable'].any():
                embeddings.append(arrays['embeddings'])
            found += [k for k, ok in zip(shard, arrays['readable']) if ok]
        if not found:
            raise ValueError('None of the clips could be read.')
        return np.concatenate(embeddings), found


def in_shards(keys: Sequence[Key]) -> List[List[Key]]:
    """Splits keys into runs of :data:`SHARD`."""
    keys = [tuple(map(int, key)) for key in keys]
    return [keys[i : i + SHARD] for i in range(0, len(keys), SHARD)]
