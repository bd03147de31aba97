"""Asks the teachers about the next batch while the student learns this one."""

from typing import Dict, List, NamedTuple, Optional

import torch
from torch import Tensor

from ..recognizers.feature_tap import Recording
from .protocol import TaughtModel


class Answer(NamedTuple):
    """What the teachers say of a batch that has not begun.

    Attributes:
        clips (Tensor): The batch.
        taught (dict[str, Recording]): As :meth:`TaughtModel.teach` gives.
        ready (torch.cuda.Event, optional): When it has been computed.
    """

    clips: Tensor
    taught: Dict[str, Recording]
    ready: Optional[torch.cuda.Event]


class TeachersAhead:
    """Runs a distiller's teachers one batch ahead, on a stream of their own.

    On a GPU that one small model does not fill, the teachers' kernels run
    beside the student's. Off CUDA there is no stream, only the order.

    Args:
        distiller (TaughtModel): Its :meth:`~TaughtModel.teach` takes the
            answers from here.

    Raises:
        ValueError: If it has no live teachers, or random numbers are drawn
            on the way: they would be those of another batch.
    """

    def __init__(self, distiller: TaughtModel) -> None:
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
        self.answers: List[Answer] = []
        distiller.teachers_ahead = self

    def begin(self, data: dict) -> dict:
        """Queue the teachers' pass of a batch.

        Args:
            data (dict): What the data loader collected.

        Returns:
            dict: The batch on the device; preprocessing it again changes
                nothing.
        """
        batch = self.distiller.data_preprocessor(data, training=True)
        clips = batch['inputs']
        if self.stream is None:
            taught, ready = self.distiller.run_teachers(clips), None
        else:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                taught = self.distiller.run_teachers(clips)
                ready = self.stream.record_event()
            clips.record_stream(self.stream)
        self.answers.append(Answer(clips, taught, ready))
        if len(self.answers) > 2:
            raise RuntimeError(
                'Steps do not take the answers that teachers_ahead has ready: '
                'the model sees other tensors than the loop.'
            )
        return batch

    def take(self, clips: Tensor) -> Optional[Dict[str, Recording]]:
        """The answers about a batch, or None if it was not asked about."""
        found = [i for i, a in enumerate(self.answers) if a.clips is clips]
        if not found:
            return None
        answer = self.answers.pop(found[0])
        if answer.ready is not None:
            here = torch.cuda.current_stream()
            here.wait_event(answer.ready)
            for recording in answer.taught.values():
                for tensor in recording.tensors():
                    tensor.record_stream(here)
        return answer.taught
