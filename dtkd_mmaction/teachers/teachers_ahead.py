"""Runs the teachers on the next batch while the student learns this one."""

from typing import Dict, List, NamedTuple, Optional

import torch
from torch import Tensor

from ..recognizers.recording import Recording
from .protocol import ModelWithTeachers


class QueuedBatch(NamedTuple):
    """Outputs of the teachers for a batch whose step has not begun.

    Attributes:
        clips (Tensor): The batch.
        outputs (dict[str, Recording]): Outputs by teacher.
        ready (torch.cuda.Event, optional): Recorded behind the last kernel.
    """

    clips: Tensor
    outputs: Dict[str, Recording]
    ready: Optional[torch.cuda.Event]


class TeachersAhead:
    """Runs the teachers of a distiller one batch ahead, on their own stream.

    On a GPU that one small model does not fill, the kernels of the teachers
    run at the same time as those of the student. Without CUDA there is no
    stream, and only the order of the work changes.

    Args:
        distiller (ModelWithTeachers): Its ``teach`` calls :meth:`take`.

    Raises:
        ValueError: If it has no live teachers, or if the step draws random
            numbers before the teachers run: they would be those of another
            batch.
    """

    def __init__(self, distiller: ModelWithTeachers) -> None:
        key = 'train_cfg.teachers_ahead=True'
        if not distiller.teacher_specs:
            raise ValueError(f'{key}: the model has no teachers.')
        if distiller.teacher_cache is not None:
            raise ValueError(
                f'{key}: with model.teacher_cache no teacher runs. Leave one '
                'of the two out.'
            )
        if distiller.data_preprocessor.blending is not None:
            raise ValueError(
                f'{key}: mixup or CutMix of the student config draws its '
                'partners in the step itself. Leave one of the two out.'
            )
        if distiller.teacher_mode != 'eval':
            raise ValueError(
                f'{key}: teachers with teacher_mode='
                f'{distiller.teacher_mode!r} draw random numbers.'
            )
        self.distiller = distiller
        device = next(distiller.parameters()).device
        self.stream = (
            torch.cuda.Stream(device) if device.type == 'cuda' else None
        )
        self.queue: List[QueuedBatch] = []
        distiller.teachers_ahead = self

    def begin(self, data: dict) -> dict:
        """Starts the teachers on a batch.

        Args:
            data (dict): Batch of the data loader.

        Returns:
            dict: The batch on the device. Preprocessing it again changes
                nothing.
        """
        batch = self.distiller.data_preprocessor(data, training=True)
        clips = batch['inputs']
        if self.stream is None:
            outputs, ready = self.distiller.run_teachers(clips), None
        else:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                outputs = self.distiller.run_teachers(clips)
                ready = self.stream.record_event()
            clips.record_stream(self.stream)
        self.queue.append(QueuedBatch(clips, outputs, ready))
        if len(self.queue) > 2:
            raise RuntimeError(
                'train_cfg.teachers_ahead=True: the training steps do not '
                'use the outputs that were computed ahead, because the model '
                'receives other tensors than the training loop.'
            )
        return batch

    def take(self, clips: Tensor) -> Optional[Dict[str, Recording]]:
        """Returns the outputs for a batch, or None if none were computed."""
        found = [i for i, b in enumerate(self.queue) if b.clips is clips]
        if not found:
            return None
        batch = self.queue.pop(found[0])
        if batch.ready is not None:
            here = torch.cuda.current_stream()
            here.wait_event(batch.ready)
            for recording in batch.outputs.values():
                for tensor in recording.tensors():
                    tensor.record_stream(here)
        return batch.outputs
