"""VideoDataset that names what is wrong with its list and its clips."""

import os.path as osp
from typing import Any, List

import torch
from decord import DECORDError
from mmaction.datasets import VideoDataset
from mmaction.registry import DATASETS
from mmengine.logging import print_log

# What decord, PyAV (OSError) and OpenCV raise on files they cannot decode.
UNREADABLE = (DECORDError, RuntimeError, OSError, IndexError)


@DATASETS.register_module()
class CheckedVideoDataset(VideoDataset):
    """MMAction2's ``VideoDataset``, with its inputs checked.

    An annotation file that is missing, empty or malformed ends the run when
    the data set is built. A clip that cannot be read in training is replaced
    by another, with its name in the log, up to a limit; in a test it ends
    the run, with its name. Every sample says which it is
    (``metainfo['sample_idx']``), for losses that remember samples (CRD).

    Args:
        max_unreadable (int): So many different clips may be unreadable (in
            each process of a distributed run). Defaults to 10.
        **kwargs: Those of ``VideoDataset``.

    Raises:
        FileNotFoundError: If there is no annotation file.
        ValueError: If it holds no clip, or a line is not ``path label``.
    """

    def __init__(self, *args, max_unreadable: int = 10, **kwargs) -> None:
        self.max_unreadable = max_unreadable
        super().__init__(*args, **kwargs)
        # In shared memory: all workers of the data loader count together.
        self._unreadable = torch.zeros(
            len(self), dtype=torch.bool
        ).share_memory_()

    @property
    def _key(self) -> str:
        loader = 'val_dataloader' if self.test_mode else 'train_dataloader'
        return f'{loader}: ann_file={self.ann_file!r}'

    def load_data_list(self) -> List[dict]:
        """Load the annotation file: one ``path label`` a line."""
        if not osp.isfile(self.ann_file):
            raise FileNotFoundError(
                f'{self._key} does not exist. It must list one "path label" '
                'a line, paths relative to data_prefix.video.'
            )
        try:
            data_list = super().load_data_list()
        except ValueError as error:
            raise ValueError(
                f'{self._key}: a line is not "path{self.delimiter}label" with '
                f'an integer label ({error}). For paths with spaces set '
                "dataset.delimiter, e.g. to ','."
            ) from error
        if not data_list:
            raise ValueError(f'{self._key} is empty: no clip to work with.')
        return data_list

    def prepare_data(self, idx: int) -> Any:
        """Run the pipeline; None for an unreadable clip in training.

        Raises:
            RuntimeError: For an unreadable clip in a test, or one too many
                in training.
        """
        try:
            data = super().prepare_data(idx)
            data['data_samples'].set_metainfo(dict(sample_idx=idx))
            return data
        except UNREADABLE as error:
            name = self.get_data_info(idx)['filename']
            if self.test_mode:
                raise RuntimeError(
                    f'Clip {name} cannot be read: {error}'
                ) from error
            if not self._unreadable[idx]:
                self._unreadable[idx] = True
                print_log(
                    f'Clip {name} cannot be read and is skipped: {error}',
                    'current',
                    level=30,
                )
            self._check_limit()
            return None

    def _check_limit(self) -> None:
        bad = self._unreadable.nonzero().flatten().tolist()
        if len(bad) > self.max_unreadable:
            names = [self.get_data_info(i)['filename'] for i in bad]
            raise RuntimeError(
                f'{len(bad)} clips of {self.ann_file} cannot be read, more '
                f'than max_unreadable={self.max_unreadable}: {names[:20]}'
            )
