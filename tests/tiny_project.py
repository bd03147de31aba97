"""A project of tiny trained students whose every answer is known."""

import json

import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from tiny_distillation import lively, write_distillation
from tiny_models import FRAMES, NUM_CLASSES, SIZE, tiny_x3d

# A name that is HTML, one with a space, one of another script.
CLASSES = ['<b>run & jump</b>', 'long jump', '走る', 'swim']
VAL_PIPELINE = [
    dict(type='DecordInit'),
    dict(
        type='SampleFrames',
        clip_len=FRAMES,
        frame_interval=2,
        num_clips=1,
        test_mode=True,
    ),
    dict(type='DecordDecode'),
    dict(type='Resize', scale=(SIZE, SIZE), keep_ratio=False),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]


def always(answer):
    """Weights of the tiny X3D that give every clip the same answer."""
    state = lively(tiny_x3d(), seed=1).state_dict()
    state['cls_head.fc2.weight'].zero_()
    state['cls_head.fc2.bias'].copy_(5 * torch.eye(NUM_CLASSES)[answer])
    return state


def write_run(folder, config, state, accuracy, **monitors):
    """The work dir of a training of two epochs."""
    logs = folder / '20260101_000000' / 'vis_data'
    logs.mkdir(parents=True)
    Config(dict(config)).dump(logs / 'config.py')
    lines = []
    for epoch in (1, 2):
        train = dict(loss=3 - epoch, loss_cls=3 - epoch, **monitors)
        lines += [
            dict(train, epoch=epoch, step=10 * epoch, iter=10 * epoch),
            {'acc/top1': accuracy * epoch / 2, 'step': epoch},
        ]
    text = '\n'.join(map(json.dumps, lines))
    (logs / 'scalars.json').write_text(text)
    meta = dict(cfg=Config(dict(config)).pretty_text)
    torch.save(dict(meta=meta, state_dict=state), folder / 'epoch_2.pth')
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_2.pth'))


def write_project(folder, seeds=(0,)):
    """Clips, teachers, and both students; one of each per seed.

    The 8 validation clips are two of each class. The student alone always
    answers class 0; the distilled student answers class 1, and class 2 with
    seeds other than 0.
    """
    distilled = Config.fromfile(write_distillation(folder))
    distilled.val_dataloader.dataset.pipeline = VAL_PIPELINE
    (folder / 'classes.txt').write_text('\n'.join(CLASSES), encoding='utf-8')
    common = dict(
        default_scope='mmaction', val_dataloader=distilled.val_dataloader
    )
    for seed in seeds:
        randomness = dict(randomness=dict(seed=seed))
        write_run(
            folder / 'work_dirs' / 'student_alone' / f'seed{seed}',
            dict(common, model=tiny_x3d(), **randomness),
            always(0),
            0.25,
        )
        model = MODELS.build(distilled.model)
        model.student.load_state_dict(always(2 if seed else 1))
        run = folder / 'work_dirs' / 'dtkd' / f'seed{seed}'
        state = model.state_dict()
        monitors = {'loss_sr': 0.5, 'datw/vit': 0.75, 'datw/cnn': 0.25}
        config = dict(distilled, **randomness)
        write_run(run, config, state, 0.25, **monitors)
    return folder
