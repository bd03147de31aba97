"""Small clips of noise, and the annotation list of each split."""

import cv2
import numpy as np
from tiny_models import NUM_CLASSES


def write_clips(folder, counts, frames=12):
    """Writes ``counts`` (split -> clips) mp4 files of 64x48 and the lists."""
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        lines = []
        for i in range(count):
            name = f'{split}_{i}.mp4'
            writer = cv2.VideoWriter(
                str(folder / name),
                cv2.VideoWriter_fourcc(*'mp4v'),
                10,
                (64, 48),
            )
            for _ in range(frames):
                writer.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
            writer.release()
            lines.append(f'{name} {i % NUM_CLASSES}')
        (folder / f'{split}.txt').write_text('\n'.join(lines))


def noise_pipeline(frames, size):
    """A stock training pipeline with random frames, crop and flip."""
    return [
        dict(type='DecordInit'),
        dict(
            type='SampleFrames',
            clip_len=frames,
            frame_interval=1,
            num_clips=1,
        ),
        dict(type='DecordDecode'),
        dict(type='RandomResizedCrop'),  # NumPy's and Python's generators
        dict(type='Resize', scale=(size, size), keep_ratio=False),
        dict(type='Flip', flip_ratio=0.5),
        dict(type='FormatShape', input_format='NCTHW'),
        dict(type='PackActionInputs'),
    ]


def noise_run(folder, frames, size):
    """The parts of a run config that train and validate on these clips."""
    dataset = dict(
        type='CheckedVideoDataset',
        ann_file=f'{folder}/train.txt',
        data_prefix=dict(video=str(folder)),
        pipeline=noise_pipeline(frames, size),
    )
    return dict(
        default_scope='mmaction',
        custom_imports=dict(imports=['dtkd_mmaction']),
        train_dataloader=dict(
            batch_size=4,
            num_workers=0,
            sampler=dict(type='KeyedViewSampler', shuffle=True),
            dataset=dict(type='KeyedViewDataset', dataset=dataset),
        ),
        val_dataloader=dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(
                dataset, ann_file=f'{folder}/val.txt', test_mode=True
            ),
        ),
        val_evaluator=dict(type='AccMetric'),
        val_cfg=dict(type='ValLoop'),
    )
