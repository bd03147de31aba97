"""Folder of a tiny distillation run that has ended, for deployment."""

import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from noise_clips import noise_run, write_clips
from tiny_models import FRAMES, SIZE, tiny_distiller

from dtkd_mmaction.deployment.student_export import (
    config_file,
    student_checkpoint,
)

NAMES = ['a', 'b b', 'c', 'd']
# Two clips and three crops per video.
TEST_PIPELINE = [
    dict(type='DecordInit'),
    dict(type='SampleFrames', clip_len=FRAMES, num_clips=2, test_mode=True),
    dict(type='DecordDecode'),
    dict(type='Resize', scale=(-1, SIZE)),
    dict(type='ThreeCrop', crop_size=SIZE),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]


def write_run(folder, pipeline=TEST_PIPELINE, **model):
    """Writes clips, a config, a checkpoint and the exported student.

    Args:
        folder (Path): An empty folder.
        pipeline (list[dict]): For validation and test.
        **model: Changes the model of the config.
    """
    write_clips(folder, dict(train=6, val=6))
    (folder / 'classes.txt').write_text('\n'.join(NAMES))
    config = Config(
        dict(
            model=dict(tiny_distiller(), **model),
            **noise_run(folder, FRAMES, SIZE),
        )
    )
    config.val_dataloader.dataset.pipeline = pipeline
    config.test_dataloader = config.val_dataloader
    config.test_evaluator = config.val_evaluator
    config.test_cfg = dict(type='TestLoop')
    config.dump(folder / 'dtkd.py')
    torch.manual_seed(0)
    checkpoint = dict(
        meta=dict(cfg=config.pretty_text),
        state_dict=MODELS.build(config.model).state_dict(),
        optimizer=dict(state={}),
    )
    torch.save(checkpoint, folder / 'epoch_1.pth')
    exported = student_checkpoint(checkpoint)
    torch.save(exported, folder / 'student_epoch_1.pth')
    text = config_file(exported['meta']['cfg'])
    (folder / 'student_config.py').write_text(text)
