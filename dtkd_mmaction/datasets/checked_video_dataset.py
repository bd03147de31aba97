"""Video data set that checks its annotation list and its clips."""

import os.path as osp
from typing import Any, List

import torch
from decord import DECORDError
from mmaction.datasets import VideoDataset
from mmaction.registry import DATASETS
from mmengine.logging import print_log

from .annotation_list import (
    label_problems,
    list_file_problem,
    read_clip_list,
    refuse_special_file,
    summary,
)

# What decord, PyAV (OSError) and OpenCV raise on files they cannot decode.
UNREADABLE = (DECORDError, RuntimeError, OSError, IndexError)


@DATASETS.register_module()
class CheckedVideoDataset(VideoDataset):
    """MMAction2's ``VideoDataset`` with checks of its inputs.

    If the annotation file is missing, empty or malformed, building the data
    set raises an error with the numbers of the wrong lines. Blank lines and a
    byte-order mark are ignored. A label of -1 in a training list means
    "unlabelled"; a validation or test list must not contain one.

    In training, an unreadable clip is replaced by another one and named in the
    log, up to a limit. In a test, it stops the run with an error that names
    it. Every sample contains its index (``metainfo['sample_idx']``), for
    losses that remember samples (CRD).

    Args:
        max_unreadable (int): Number of different clips that may be
            unreadable (in each process of a distributed run). Defaults to
            10.
        max_unreadable_share (float): Share of the clips that may be
            unreadable; one clip always may. The smaller of both limits
            counts. Defaults to 0.2.
        **kwargs: Arguments of ``VideoDataset``. With ``num_classes`` the
            labels are compared with it.

    Raises:
        FileNotFoundError: If there is no annotation file.
        ValueError: If it contains no clip, a line is not ``path label``, or a
            label is out of range.

    Example:
        >>> import pathlib, tempfile
        >>> from mmaction.registry import DATASETS
        >>> path = pathlib.Path(tempfile.mkdtemp(), 'train.txt')
        >>> _ = path.write_text('jump.mp4 0')
        >>> config = dict(
        ...     type='CheckedVideoDataset', ann_file=str(path), pipeline=[]
        ... )
        >>> dataset = DATASETS.build(config)
        >>> len(dataset), dataset.get_data_info(0)['label']
        (1, 0)
        >>> _ = path.write_text('jump.mp4')
        >>> DATASETS.build(config)
        Traceback (most recent call last):
        ...
        ValueError: train_dataloader: ann_file=...
    """

    def __init__(
        self,
        *args,
        max_unreadable: int = 10,
        max_unreadable_share: float = 0.2,
        **kwargs,
    ) -> None:
        self.max_unreadable = max_unreadable
        self.max_unreadable_share = max_unreadable_share
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
        """Loads the annotation file: one ``path label`` per line."""
        self._check_file()
        if self.multi_class and self.num_classes is None:
            loader = self._key.split(':')[0]
            raise ValueError(
                f'{loader}.dataset.num_classes is missing; multi_class=True '
                'needs the number of classes.'
            )
        clips, problems = read_clip_list(
            self.ann_file, self.delimiter, self.multi_class
        )
        if not problems:
            problems = label_problems(
                clips, self.num_classes, training=not self.test_mode
            )
        if problems:
            raise ValueError(f'{self._key}: {summary(problems)}')
        folder = self.data_prefix.get('video')
        return [
            dict(
                filename=osp.join(folder, clip.path) if folder else clip.path,
                label=list(clip.labels)
                if self.multi_class
                else clip.labels[0],
            )
            for clip in clips
        ]

    def _check_file(self) -> None:
        problem = list_file_problem(self.ann_file)
        if problem is not None:
            raise FileNotFoundError(f'{self._key} {problem}')

    def prepare_data(self, idx: int) -> Any:
        """Runs the pipeline; returns None for an unreadable training clip.

        Raises:
            RuntimeError: For an unreadable clip in a test, or too many in
                training.
        """
        try:
            refuse_special_file(self.get_data_info(idx)['filename'])
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
        share = max(1, int(self.max_unreadable_share * len(self)))
        if len(bad) > min(self.max_unreadable, share):
            names = [self.get_data_info(i)['filename'] for i in bad]
            raise RuntimeError(
                f'{len(bad)} of the {len(self)} clips of {self.ann_file} '
                'cannot be read, more than max_unreadable='
                f'{self.max_unreadable} clips or max_unreadable_share='
                f'{self.max_unreadable_share} allow: {names[:20]}. Check '
                'data_prefix.video, and the clips with '
                'tools/data/check_clips.py.'
            )
