"""Models with random weights, generated clips and a cache for measuring."""

import argparse
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, List, Optional

import cv2
import numpy as np
import torch
import torch.nn as nn
from mmaction.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from dtkd_mmaction.datasets import KeyedViewDataset
from dtkd_mmaction.distillers import DualTeacherDistiller
from dtkd_mmaction.distillers.shared_clip import SharedClipPreprocessor
from dtkd_mmaction.files import atomic_file, write_text
from dtkd_mmaction.recognizers.clip_view import model_inputs
from dtkd_mmaction.recognizers.tapped_recognizer import build_tapped
from dtkd_mmaction.teachers.frozen_teacher import FrozenTeacher
from dtkd_mmaction.teachers.teacher_cache_writer import TeacherCacheWriter

MODEL_KEYS = ('student', 'vit_teacher', 'cnn_teacher')
LOSS_KEYS = ('loss_sr', 'loss_sd', 'loss_rkd')
FEWEST_CLIPS = 8  # generated videos
VIDEO = dict(frames=90, width=320, height=240)
# Standard deviation over classes, as of trained models' logits.
LOGIT_STD = 3.0


def choose_views(
    model: dict, student: Optional[List[int]], teacher: Optional[List[int]]
) -> Dict[str, List[int]]:
    """Chooses the frames and the size that each model sees.

    Args:
        model (dict): Config of the distiller.
        student (list[int], optional): Frames and size of the student,
            instead of those of the config.
        teacher (list[int], optional): The same for both teachers.

    Returns:
        dict[str, list[int]]: Key of the model -> frames and size.

    Raises:
        SystemExit: If the config does not say it.
    """
    views = {}
    for key in MODEL_KEYS:
        given = student if key == 'student' else teacher
        view = model[key].get('view') or {}
        chosen = given or [view.get('frames'), view.get('size')]
        if not all(isinstance(value, int) for value in chosen):
            option = 'student' if key == 'student' else 'teacher'
            raise SystemExit(
                f'model.{key}.view={dict(view)}: the benchmark needs `frames` '
                f'and an integer `size`. Give --{option}-view FRAMES SIZE.'
            )
        views[key] = list(chosen)
    return views


class Workbench:
    """Makes models, clips and a cache once for all measurements.

    Args:
        args (argparse.Namespace): Options of
            ``tools/analysis/benchmark.py``.
        folder (Path): Folder for clips, weights and cache.

    Attributes:
        clips (int): Number of videos.
        dataset (KeyedViewDataset): One view of each video, as in training.
        data (dict): A batch as the data loader returns it.
        model (dict): The config's model with random weights as checkpoints.
        specs (dict[str, dict]): Name -> model spec of everything that can be
            measured as a teacher.
    """

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args = args
        self.folder = folder
        self.device = torch.device(args.device)
        self.model = Config.fromfile(args.config).model
        check_model(self.model)
        self.num_classes = self.model.get('num_classes')
        views = choose_views(self.model, args.student_view, args.teacher_view)
        for key, (frames, size) in views.items():
            self.model[key].view = dict(frames=frames, size=size)
        # Clips as large as the largest view, as in a training.
        args.student_view = views['student']
        args.teacher_view = [max(values) for values in zip(*views.values())]
        self.clips = max(FEWEST_CLIPS, args.batch)
        write_clips(folder, self.clips, self.num_classes or 2)
        self.dataset_config = dict(
            type='KeyedViewDataset',
            views=1,
            dataset=dict(
                type='CheckedVideoDataset',
                ann_file=str(folder / 'clips.txt'),
                data_prefix=dict(video=str(folder)),
                pipeline=training_pipeline(*args.teacher_view),
            ),
        )
        self.dataset: KeyedViewDataset = DATASETS.build(self.dataset_config)
        self.dataset.full_init()
        self.data = pseudo_collate(self.load(args.batch))
        self.specs: Dict[str, dict] = {}
        for key in MODEL_KEYS:
            self.add_model(key, self.model[key])

    def load(self, count: int) -> List[dict]:
        """Returns the first samples, decoded."""
        return [self.dataset[index, 0] for index in range(count)]

    def add_model(self, name: str, spec: dict) -> None:
        """Gives a model spec a checkpoint, and the teachers' view.

        Args:
            name (str): Name of the model.
            spec (dict): Changed in place.
        """
        # A seed per model: X3D-S and X3D-M have the same architecture.
        torch.manual_seed(len(self.specs))
        frames, size = self.args.teacher_view
        spec.setdefault('view', dict(frames=frames, size=size))
        recognizer, view, _ = build_tapped(spec, self.num_classes, name)
        clips = self.clips_of_a_batch()[:2].cpu()
        make_realistic(recognizer, model_inputs(recognizer, view, clips))
        path = str(self.folder / f'{name.replace(" ", "_")}.pth')
        with atomic_file(path) as file:
            torch.save(dict(state_dict=recognizer.state_dict()), file)
        spec['checkpoint'] = path
        self.specs[name] = spec

    def distiller(
        self, speedups: bool = True, **options: Any
    ) -> DualTeacherDistiller:
        """Builds a distiller of the bench's models, ready to train."""
        torch.manual_seed(0)
        # The teachers are random: with trust their losses would be 0.
        plain = dict(teacher_trust=False, max_gradient_ratio=0)
        model = {**plain, **self.model, **options}
        for key in ('vit_teacher', 'cnn_teacher'):
            model[key] = {**model[key], 'speedups': speedups}
        distiller = MODELS.build(model).to(self.device)
        distiller.init_weights()
        return distiller.train()

    def teacher(self, key: str, **spec: Any) -> FrozenTeacher:
        """Builds one teacher, whose speedups are not applied yet."""
        teacher = FrozenTeacher(
            {**self.specs[key], **spec}, self.num_classes, key
        )
        teacher.load_checkpoint()
        return teacher.to(self.device)

    @cached_property
    def live(self) -> DualTeacherDistiller:
        """Distiller with all speedups. Its copies share the teachers."""
        return self.distiller()

    @cached_property
    def writer(self) -> TeacherCacheWriter:
        """Cache writer whose first shard is one batch."""
        writer = TeacherCacheWriter(
            self.live,
            self.dataset,
            self.dataset_config,
            str(self.folder / 'cache'),
            views=1,
            shard=self.args.batch,
        )
        writer.begin()
        for _ in writer.write(writer.todo(), self.args.batch):
            pass
        return writer

    def cached(self) -> DualTeacherDistiller:
        """Builds a distiller that reads the teachers' outputs."""
        distiller = self.distiller(teacher_cache=self.writer.folder)
        distiller.teacher_cache.data_is_checked = True  # made just now
        return distiller

    def batch(self, distiller: nn.Module) -> dict:
        """Returns clips and samples on the device."""
        return distiller.data_preprocessor(dict(self.data), training=True)

    def clips_of_a_batch(self) -> Tensor:
        """Returns the clips of a batch on the device."""
        preprocessor = SharedClipPreprocessor(None).to(self.device)
        return preprocessor(dict(self.data))['inputs']


def check_model(model: dict) -> None:
    """Raises an error if a config lacks the steps that are compared."""
    if model.get('type') != 'DualTeacherDistiller':
        raise SystemExit(
            f'model.type={model.get("type")!r}: the benchmark measures a '
            'DualTeacherDistiller, as in configs/dtkd.'
        )
    off = [k for k in LOSS_KEYS if k in model and model[k] is None]
    if off or model.get('losses'):
        raise SystemExit(
            f'model: {", ".join(off) or "losses"}: the steps that are '
            f'compared need {", ".join(LOSS_KEYS)} and no other loss.'
        )


def make_realistic(model: nn.Module, inputs: Tensor) -> None:
    """Gives random weights the scale of trained ones, in place.

    New models have position tables of zero, BatchNorm without effect and
    nearly constant logits, so comparisons of outputs would never fail.

    Args:
        model (nn.Module): A stock recognizer.
        inputs (Tensor): Its inputs, for the statistics of BatchNorm.
    """
    for name, parameter in model.named_parameters():
        if 'rel_pos' in name or 'bias_table' in name:
            nn.init.normal_(parameter, std=0.5)
    model.eval()
    momenta: Dict[_BatchNorm, float] = {}
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            momenta[module] = module.momentum
            module.reset_running_stats()
            module.momentum = None  # averages over everything that it sees
            module.training = True
    with torch.no_grad():
        model.extract_feat(inputs, stage='head')
        for module, momentum in momenta.items():
            module.momentum = momentum
            module.training = False
        logits = model.extract_feat(inputs, stage='head')[0]
        classifier = [
            m for m in model.cls_head.modules() if isinstance(m, nn.Linear)
        ][-1]
        classifier.weight *= LOGIT_STD / logits.std()


def write_clips(folder: Path, count: int, num_classes: int) -> None:
    """Writes moving smooth noise as mp4 files, and their list."""
    generator = np.random.default_rng(0)
    size = (VIDEO['width'], VIDEO['height'])
    lines = []
    for index in range(count):
        writer = cv2.VideoWriter(
            str(folder / f'{index}.mp4'),
            cv2.VideoWriter_fourcc(*'mp4v'),
            30,
            size,
        )
        coarse = generator.integers(0, 255, (24, 32, 3), np.uint8)
        still = cv2.resize(coarse, size)
        for frame in range(VIDEO['frames']):
            writer.write(np.roll(still, 2 * frame, axis=1))
        writer.release()
        lines.append(f'{index}.mp4 {index % num_classes}')
    write_text(folder / 'clips.txt', '\n'.join(lines))


def training_pipeline(frames: int, size: int) -> List[dict]:
    """Returns the pipeline of ``configs/_base_/datasets/hmdb51.py``."""
    return [
        dict(type='DecordInit'),
        dict(
            type='SampleFrames',
            clip_len=frames,
            frame_interval=4,
            num_clips=1,
        ),
        dict(type='DecordDecode'),
        dict(type='Resize', scale=(-1, 256)),
        dict(type='RandomResizedCrop'),
        dict(type='Resize', scale=(size, size), keep_ratio=False),
        dict(type='Flip', flip_ratio=0.5),
        dict(type='FormatShape', input_format='NCTHW'),
        dict(type='PackActionInputs'),
    ]
