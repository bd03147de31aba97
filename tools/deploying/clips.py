"""Clips of the validation and training lists, as the deployed model sees."""

from typing import Any, Iterator, List, Optional

import numpy as np
from mmaction.registry import DATASETS
from prediction.class_names import (
    find_class_names,
    names_in,
    read_class_names,
)
from prediction.student import Student, StudentError

from dtkd_mmaction.deployment.clip_classifier import class_counts
from dtkd_mmaction.deployment.plain_config import to_literals

PARTS = ('val', 'test')


class Clips:
    """Data sets of a student's run with one validation pipeline.

    Args:
        student (Student): The student.
        part (str, optional): ``'val'`` or ``'test'``. Defaults to the first
            that the config has.
        train_list (str, optional): Training list for a config without one.

    Attributes:
        part (str): Whose pipeline and list are used.
        pipeline (list[dict]): In literals.

    Raises:
        StudentError: If the config has no such data.
    """

    def __init__(
        self,
        student: Student,
        part: Optional[str] = None,
        train_list: Optional[str] = None,
    ) -> None:
        parts = [name for name in PARTS if student.dataset(name)]
        if part is not None and part not in parts:
            raise StudentError(
                f'--pipeline {part}: the config of {student.path} has no '
                f'{part}_dataloader. It has those of {parts or "no list"}.'
            )
        if not parts:
            raise StudentError(
                f'the config of {student.path} has neither val_dataloader '
                'nor test_dataloader. Name a config that has with --config.'
            )
        self._student = student
        self._train_list = train_list
        self.part = part or parts[0]
        self._dataset = student.dataset(self.part)
        self.pipeline = to_literals(self._dataset['pipeline'], 'pipeline')

    def evaluator(self) -> Any:
        """Returns the config of the evaluator of the list."""
        config = self._student.config
        return config.get(f'{self.part}_evaluator') or dict(type='AccMetric')

    def validation(self, count: Optional[int] = None) -> Iterator[dict]:
        """Yields samples of the validation list, ``count`` evenly spread."""
        return _samples(DATASETS.build(self._dataset), count)

    def training(self, count: int) -> Iterator[dict]:
        """Yields samples of the training list with the same pipeline."""
        dataset = self._student.dataset('train')
        if self._train_list is not None:
            dataset = dict(self._dataset, ann_file=self._train_list)
        if dataset is None:
            raise StudentError(
                f'--int8 needs clips of the training list, and the config of '
                f'{self._student.path} names none. Name it with --train-list, '
                'or deploy the folder of the run.'
            )
        dataset = dict(
            dataset, pipeline=self._dataset['pipeline'], test_mode=True
        )
        return _samples(DATASETS.build(dataset), count)

    def class_names(self, path: Optional[str]) -> Optional[List[str]]:
        """Returns the names of the classes, or None if there are none.

        Args:
            path (str, optional): File with one name per line.

        Raises:
            StudentError: If their number is not the model's.
        """
        counts = class_counts(self._student.recognizer.cls_head)
        if path is None:
            if len(counts) != 1:
                return None
            known = names_in(self._student.checkpoint, counts[0])
            ann_file = self._dataset.get('ann_file')
            if known or not isinstance(ann_file, str):
                return known
            return find_class_names(ann_file, counts[0])
        names = read_class_names(path)
        if len(names) != sum(counts):
            raise StudentError(
                f'--classes {path}: it has {len(names)} names, but the model '
                f'has {sum(counts)} classes.'
            )
        return names


def _samples(dataset: Any, count: Optional[int]) -> Iterator[dict]:
    dataset.full_init()
    numbers = range(len(dataset))
    if count is not None and count < len(numbers):
        spread = np.linspace(0, len(numbers) - 1, count)
        numbers = spread.round().astype(int).tolist()
    for number in numbers:
        yield dataset[number]
