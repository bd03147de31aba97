"""A checkpoint as a model of ``tools/predict.py``, by MMAction2."""

from typing import List, Optional, Tuple

import numpy as np
import torch
from mmaction.structures import ActionDataSample
from mmengine.logging import MMLogger

from dtkd_mmaction.compat import CheckpointError
from dtkd_mmaction.deployment.clip_classifier import (
    ClipClassifier,
    class_counts,
)
from dtkd_mmaction.deployment.comparison import stock_scores
from dtkd_mmaction.deployment.plain_config import to_literals
from dtkd_mmaction.deployment.stream_export import check_streaming

from .class_names import find_class_names, names_in
from .onnx_model import ModelError
from .pipeline import ClipPipeline
from .student import Student, StudentError, load_student


class TorchModel:
    """The stock model with the pipeline with which it is tested.

    Args:
        path (str): A checkpoint or the folder of a run.
        config (str, optional): Config of a checkpoint without one.
        threads (int, optional): Threads of PyTorch.

    Attributes:
        class_names (list[str] or None): In the order of the labels.
        class_counts (list[int]): Classes per question.
        pipeline (ClipPipeline): Samples and crops the clips.
        recognizer (nn.Module): In eval mode.
    """

    def __init__(
        self,
        path: str,
        config: Optional[str] = None,
        threads: Optional[int] = None,
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        student = load_student(path, config)
        self.recognizer = student.recognizer
        self.class_counts = class_counts(self.recognizer.cls_head)
        pipeline, self.class_names = _test_data(student, self.class_counts)
        self.pipeline = ClipPipeline(pipeline)

    def scores(self, clips: np.ndarray) -> np.ndarray:
        """Returns the probabilities (N,) of one video.

        Args:
            clips (np.ndarray): ``uint8`` (V, T, H, W, 3), or (1, M, H, W, 3)
                for a 2-D recognizer.
        """
        inputs = torch.from_numpy(np.ascontiguousarray(clips))
        if self.pipeline.folds_frames:
            inputs = inputs[0].permute(0, 3, 1, 2)  # (M, 3, H, W)
        else:
            inputs = inputs.permute(0, 4, 1, 2, 3)  # (V, 3, T, H, W)
        sample = dict(
            inputs=inputs.contiguous(), data_samples=ActionDataSample()
        )
        return stock_scores(self.recognizer, sample).numpy()


def _test_data(
    student: Student, counts: List[int]
) -> Tuple[List[dict], Optional[List[str]]]:
    """Returns the test pipeline and the names of the classes."""
    dataset = student.dataset('test') or student.dataset('val') or {}
    pipeline = student.config.get('test_pipeline') or dataset.get('pipeline')
    if dataset.get('pipeline'):
        pipeline = dataset['pipeline']
    if not pipeline:
        raise StudentError(
            f'the config of {student.path} has no test_pipeline and no '
            'test_dataloader, so it is not known which clips the model sees.'
        )
    names = None
    if len(counts) == 1:
        names = names_in(student.checkpoint, counts[0])
        ann_file = dataset.get('ann_file')
        if names is None and isinstance(ann_file, str):
            names = find_class_names(ann_file, counts[0])
    return to_literals(pipeline, 'test_pipeline'), names


class TorchStream(TorchModel):
    """A causal MoViNet that is given one frame after the other."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        check_streaming(self.recognizer)
        self._classifier = ClipClassifier(
            self.recognizer, normalise=True, softmax=True
        )
        self.reset()

    def reset(self) -> None:
        """Begins a new video."""
        self._state = self._head_state = None

    @torch.no_grad()
    def push(self, frame: np.ndarray) -> np.ndarray:
        """Returns the probabilities (N,) of the video so far.

        Args:
            frame (np.ndarray): ``uint8`` (H, W, 3) as decoded.
        """
        image = np.ascontiguousarray(self.pipeline.pixels([frame])[0])
        clip = self._classifier.normalised(torch.from_numpy(image)[None, None])
        model = self._classifier.recognizer
        feats, self._state = model.backbone.stream(clip, self._state)
        logits, self._head_state = model.cls_head.stream(
            feats, self._head_state
        )
        return self._classifier.scores(logits)[0].numpy()


def open_checkpoint(
    path: str, config: Optional[str], threads: Optional[int], streams: bool
) -> TorchModel:
    """Opens a checkpoint or the folder of a run.

    Args:
        path (str): The checkpoint or the folder.
        config (str, optional): Config of a checkpoint without one.
        threads (int, optional): Threads of PyTorch.
        streams (bool): Whether a model that can take one frame after the
            other is to be used so.

    Raises:
        ModelError: If it cannot be opened.
    """
    # MMEngine logs to stdout, where the answers go.
    MMLogger.get_current_instance().setLevel('ERROR')
    try:
        model = TorchModel(path, config, threads)
        if streams and getattr(model.recognizer.backbone, 'causal', False):
            model = TorchStream(path, config, threads)
    except (StudentError, CheckpointError, TypeError) as error:
        raise ModelError(str(error)) from error
    return model
