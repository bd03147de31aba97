"""EPIC-KITCHENS-100: labelled segments of long videos."""

import csv
import os.path as osp
from typing import Dict, List

from mmaction.datasets.transforms import DecordInit
from mmaction.registry import DATASETS, TRANSFORMS

from .checked_video_dataset import CheckedVideoDataset

CLASS_COUNTS = dict(verb=97, noun=300)
COLUMNS = (
    'narration_id',
    'participant_id',
    'video_id',
    'start_timestamp',
    'stop_timestamp',
    'verb_class',
    'noun_class',
)


@TRANSFORMS.register_module()
class SegmentInit(DecordInit):
    """``DecordInit`` for a segment of a long video.

    Sets ``start_index`` and ``total_frames`` to those of the segment, so that
    ``SampleFrames``, ``UniformSample`` and ``DenseSampleFrames`` choose frames
    inside it: all of them count from 0 to ``total_frames`` and then add
    ``start_index``.

    Required keys: ``filename``, ``segment`` (start and stop in seconds).
    Added keys: ``video_reader``, ``avg_fps``, ``start_index``,
    ``total_frames``.

    Args:
        kwargs (dict): Arguments of ``DecordInit``.

    Example:
        >>> import tempfile
        >>> import cv2
        >>> import numpy as np
        >>> from dtkd_mmaction.datasets import SegmentInit
        >>> path = f'{tempfile.mkdtemp()}/kitchen.mp4'
        >>> code = cv2.VideoWriter_fourcc(*'mp4v')
        >>> writer = cv2.VideoWriter(path, code, 10, (32, 32))
        >>> for _ in range(50):
        ...     _ = writer.write(np.zeros((32, 32, 3), np.uint8))
        >>> writer.release()
        >>> sample = dict(filename=path, segment=(1.0, 3.0))
        >>> found = SegmentInit().transform(sample)
        >>> found['start_index'], found['total_frames']
        (10, 20)
    """

    def transform(self, results: dict) -> dict:
        """Opens the video and finds the segment in it.

        Raises:
            KeyError: If the sample has no segment.
            RuntimeError: If the video ends before the segment begins.
        """
        if 'segment' not in results:
            raise KeyError(
                "SegmentInit needs results['segment'], which "
                'EpicKitchensDataset gives; for whole clips use DecordInit.'
            )
        results = super().transform(results)
        fps, length = results['avg_fps'], results['total_frames']
        start, stop = results['segment']
        first = round(start * fps)
        if first >= length:
            raise RuntimeError(
                f'{results["filename"]} ends at {length / fps:.2f} s, the '
                f'segment begins at {start:.2f} s'
            )
        # The last segment of a video may reach past its last frame.
        behind = min(round(stop * fps), length)
        results['start_index'] = first
        results['total_frames'] = max(behind - first, 1)
        return results


@DATASETS.register_module()
class EpicKitchensDataset(CheckedVideoDataset):
    """Segments of EPIC-KITCHENS-100 with their verb and noun.

    Reads the official ``EPIC_100_train.csv`` or ``EPIC_100_validation.csv``.
    The videos have the folder layout of the release,
    ``<data_prefix.video>/P01/videos/P01_01.MP4``. The pipeline begins with
    :class:`SegmentInit`; a label is ``[verb, noun]``.

    A segment is located by its timestamps and the frame rate of the video. The
    CSV's ``start_frame`` and ``stop_frame`` count the frames that the authors
    extracted, at an even 60 fps for videos of 59.94 fps: after eight minutes
    they are half a second off. So re-encoded videos work, too, even with
    another frame rate.

    Source: https://github.com/epic-kitchens/epic-kitchens-100-annotations

    Args:
        **kwargs: Arguments of :class:`CheckedVideoDataset`.

    Raises:
        FileNotFoundError: If there is no annotation file, or a video that it
            names is missing.
        ValueError: If the file lacks the official columns or has no row, a
            value is invalid, or the pipeline has no ``SegmentInit``.

    Example:
        >>> import csv, pathlib, tempfile
        >>> from mmaction.registry import DATASETS
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> video = folder / 'P01' / 'videos' / 'P01_01.MP4'
        >>> video.parent.mkdir(parents=True)
        >>> video.touch()
        >>> row = dict(
        ...     narration_id='P01_01_0',
        ...     participant_id='P01',
        ...     video_id='P01_01',
        ...     start_timestamp='00:00:01.50',
        ...     stop_timestamp='00:00:03.00',
        ...     verb_class=3,
        ...     noun_class=7,
        ... )
        >>> with open(folder / 'train.csv', 'w', newline='') as file:
        ...     csv.writer(file).writerows([row.keys(), row.values()])
        >>> dataset = DATASETS.build(
        ...     dict(
        ...         type='EpicKitchensDataset',
        ...         ann_file=str(folder / 'train.csv'),
        ...         data_prefix=dict(video=str(folder)),
        ...         pipeline=[dict(type='SegmentInit')],
        ...     )
        ... )
        >>> info = dataset.get_data_info(0)
        >>> info['segment'], info['label']
        ((1.5, 3.0), [3, 7])
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        steps = self.pipeline.transforms
        if not any(isinstance(step, SegmentInit) for step in steps):
            loader = self._key.split('.')[0]
            raise ValueError(
                f'{loader}.dataset.pipeline has no SegmentInit but '
                f'{[type(step).__name__ for step in steps]}: clips would come '
                'from anywhere in the video. Put SegmentInit in the place of '
                'DecordInit.'
            )

    def load_data_list(self) -> List[dict]:
        """Loads one sample per row of the CSV."""
        if not osp.isfile(self.ann_file):
            raise FileNotFoundError(
                f'{self._key} does not exist. Get EPIC_100_train.csv and '
                'EPIC_100_validation.csv from https://github.com/'
                'epic-kitchens/epic-kitchens-100-annotations.'
            )
        with open(self.ann_file, newline='', encoding='utf-8') as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            missing = [name for name in COLUMNS if name not in columns]
            if columns and missing:
                raise ValueError(
                    f'{self._key} lacks the columns {missing}; it has '
                    f'{columns}. It must be EPIC_100_train.csv or '
                    'EPIC_100_validation.csv: those of the test split have '
                    'no labels.'
                )
            samples = [self._sample(row, reader.line_num) for row in reader]
        if not samples:
            raise ValueError(f'{self._key} is empty: no segment to work with.')
        self._check_videos(samples)
        return samples

    def _sample(self, row: Dict[str, str], line: int) -> dict:
        """Converts a row into the input of the pipeline."""
        try:
            start = seconds(row['start_timestamp'])
            stop = seconds(row['stop_timestamp'])
            label = [int(row[f'{part}_class']) for part in CLASS_COUNTS]
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f'{self._key}, line {line}: a timestamp is not HH:MM:SS.ss or '
                f'a class not an integer ({error}).'
            ) from error
        for (part, count), value in zip(CLASS_COUNTS.items(), label):
            if not 0 <= value < count:
                raise ValueError(
                    f'{self._key}, line {line}: {part}_class={value} is not '
                    f'in 0..{count - 1}. EPIC-KITCHENS-55 has other classes.'
                )
        if stop < start:
            raise ValueError(
                f'{self._key}, line {line}: stop_timestamp='
                f'{row["stop_timestamp"]} is before start_timestamp='
                f'{row["start_timestamp"]}.'
            )
        return dict(
            filename=osp.join(
                self.data_prefix['video'],
                row['participant_id'],
                'videos',
                f'{row["video_id"]}.MP4',
            ),
            segment=(start, stop),
            label=label,
            video_id=row['video_id'],
            narration_id=row['narration_id'],
        )

    def _check_videos(self, samples: List[dict]) -> None:
        names = sorted({sample['filename'] for sample in samples})
        missing = [name for name in names if not osp.isfile(name)]
        if missing:
            raise FileNotFoundError(
                f'{len(missing)} of the {len(names)} videos of {self._key} '
                f'are missing: {missing[:5]}. They are expected at '
                '<data_prefix.video>/<participant_id>/videos/<video_id>.MP4, '
                f'with data_prefix.video={self.data_prefix["video"]!r}.'
            )


def seconds(timestamp: str) -> float:
    """Converts ``HH:MM:SS.ss`` to seconds."""
    hours, minutes, rest = timestamp.split(':')
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)
