"""Clips, teachers and a config for trainings that take seconds."""

import os
import os.path as osp

import cv2
import numpy as np
import torch
from mmengine.config import Config
from small_models import small_mvit, small_x3d

from dtkd_mmaction.recognizers.model_spec import build_recognizer

CLASSES = 3
FRAMES, SIZE = 4, 32
CLIPS = dict(train=6, val=3)
EPOCHS = 2
CNN = small_x3d(CLASSES, dropout_ratio=0.5)
VIT = small_mvit(CLASSES, FRAMES, SIZE)


def make_workplace(folder: str) -> None:
    """Writes clips, random teachers and ``dtkd.py`` into a folder."""
    os.makedirs(folder, exist_ok=True)
    rng = np.random.default_rng(0)
    for split, count in CLIPS.items():
        lines = []
        for i in range(count):
            write_clip(osp.join(folder, f'{split}_{i}.mp4'), rng)
            lines.append(f'{split}_{i}.mp4 {i % CLASSES}\n')
        with open(osp.join(folder, f'{split}.txt'), 'w') as file:
            file.writelines(lines)
    for name, model in (('vit', VIT), ('cnn', CNN)):
        torch.manual_seed(1)
        teacher = build_recognizer(Config(dict(model=model)), 'model')
        torch.save(
            dict(state_dict=teacher.state_dict()),
            osp.join(folder, f'{name}.pth'),
        )
    run_config(folder).dump(osp.join(folder, 'dtkd.py'))


def write_clip(path: str, rng: np.random.Generator) -> None:
    """Writes a small video of noise."""
    writer = cv2.VideoWriter(
        path, cv2.VideoWriter_fourcc(*'mp4v'), 10, (64, 48)
    )
    for _ in range(8):
        writer.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()


def run_config(folder: str) -> Config:
    """Returns the config of a distillation with everything that has state."""
    view = dict(frames=FRAMES, size=SIZE)
    pipeline = [
        dict(type='DecordInit'),
        dict(type='SampleFrames', clip_len=FRAMES, num_clips=1),
        dict(type='DecordDecode'),
        dict(type='RandomResizedCrop'),
        dict(type='Resize', scale=(SIZE, SIZE), keep_ratio=False),
        dict(type='Flip', flip_ratio=0.5),
        dict(type='FormatShape', input_format='NCTHW'),
        dict(type='PackActionInputs'),
    ]
    folder = osp.abspath(folder)
    data = dict(
        type='CheckedVideoDataset',
        data_prefix=dict(video=folder),
        pipeline=pipeline,
    )
    validation = dict(data, ann_file=f'{folder}/val.txt', test_mode=True)
    loader = dict(
        batch_size=1,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=validation,
    )
    return Config(
        dict(
            default_scope='mmaction',
            custom_imports=dict(imports=['dtkd_mmaction']),
            model=dict(
                type='DualTeacherDistiller',
                num_classes=CLASSES,
                student=dict(cfg=CNN, view=view),
                vit_teacher=dict(
                    cfg=VIT, checkpoint=f'{folder}/vit.pth', view=view
                ),
                cnn_teacher=dict(
                    cfg=CNN, checkpoint=f'{folder}/cnn.pth', view=view
                ),
            ),
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type='KeyedViewSampler', shuffle=True),
                dataset=dict(
                    type='KeyedViewDataset',
                    dataset=dict(data, ann_file=f'{folder}/train.txt'),
                ),
            ),
            val_dataloader=loader,
            val_evaluator=dict(type='AccMetric'),
            val_cfg=dict(type='ValLoop'),
            test_dataloader=loader,
            test_evaluator=dict(type='AccMetric'),
            test_cfg=dict(type='TestLoop'),
            train_cfg=dict(type='ResumableTrainLoop', max_epochs=EPOCHS),
            optim_wrapper=dict(
                optimizer=dict(type='SGD', lr=0.02, momentum=0.9)
            ),
            param_scheduler=[dict(type='LinearLR', by_epoch=False, end=5)],
            default_hooks=dict(
                checkpoint=dict(
                    type='AtomicCheckpointHook',
                    interval=1,
                    max_keep_ckpts=1,
                    save_best='acc/top1',
                ),
                sync_buffers=dict(type='SyncBuffersHook'),
            ),
            custom_hooks=[
                dict(type='FastStudentHook'),
                dict(type='StudentExportHook'),
                dict(type='TeacherCacheHook'),
                dict(type='EMAHook'),
            ],
            randomness=dict(seed=1, deterministic=True),
        ),
        format_python_code=False,  # takes as long as the training
    )
