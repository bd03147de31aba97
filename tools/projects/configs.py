"""Texts of the configs and tables of a project."""

import json
from typing import Dict

from mmengine.config import Config

from .plan import Plan
from .zoo import Model

# Learning rates of AdamW with batches of 16: a model from scratch, and one
# that has pretrained weights.
SCRATCH, PRETRAINED = 2e-3, 3e-4
PRETRAINED_VIT = 1.6e-4

CLIPS = """\
# The clips of this project: lists, classes, loaders.
_base_ = 'dtkd_mmaction::_base_/distill_runtime.py'

project = '{{{{ fileDirname }}}}/../..'
data_root = {root!r}

train_dataloader = dict(
    batch_size={batch},
    num_workers={workers},{persistent}
    drop_last=True,
    sampler=dict(type='KeyedViewSampler', shuffle=True),
    dataset=dict(
        type='KeyedViewDataset',
        dataset=dict(
            type='CheckedVideoDataset',
            ann_file=f'{{project}}/train.txt',
            delimiter={delimiter!r},
            data_prefix=dict(video=data_root),
            num_classes={num_classes},
            metainfo=dict(classes=f'{{project}}/classes.txt'),
        ),
    ),
)
val_dataloader = dict(
    batch_size={batch},
    num_workers={workers},{persistent}
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CheckedVideoDataset',
        ann_file=f'{{project}}/val.txt',
        delimiter={delimiter!r},
        data_prefix=dict(video=data_root),
        num_classes={num_classes},
        metainfo=dict(classes=f'{{project}}/classes.txt'),
        test_mode=True,
    ),
)
test_dataloader = dict(
    batch_size={batch},
    num_workers={workers},{persistent}
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CheckedVideoDataset',
        ann_file=f'{{project}}/{test}.txt',
        delimiter={delimiter!r},
        data_prefix=dict(video=data_root),
        num_classes={num_classes},
        metainfo=dict(classes=f'{{project}}/classes.txt'),
        test_mode=True,
    ),
)
val_evaluator = dict(type='AccMetric')
test_evaluator = val_evaluator
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
"""
BUDGET = """\
# {comment}
_base_ = './clips.py'

train_cfg = dict(
    type='ResumableTrainLoop', max_epochs={epochs}, val_interval={val_interval}
)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr={lr}, weight_decay=0.05),
    clip_grad=dict(max_norm=5),
)
# A warm-up, then a cosine to zero.
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.1,
        by_epoch=True,
        end={warm_up},
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin={warm_up},
        end={epochs},
        convert_to_iter_based=True,
    ),
]
# The last epoch counts. With few validation clips, the best of many epochs
# would be a choice made on these clips.
default_hooks = dict(
    logger=dict(interval={log_interval}),
    checkpoint=dict(
        interval={save_interval}, max_keep_ckpts=1, save_best=None
    ),
)
"""
TRAIN_PIPELINE = """\
train_pipeline = [
    dict(type='DecordInit'),
    dict(
        type='SampleFrames',
        clip_len={frames},
        frame_interval={interval},
        num_clips=1,
    ),
    dict(type={decode!r}),
    dict(type='RandomResizedCrop', area_range=(0.3, 1.0)),
    dict(type='Resize', scale=({size}, {size}), keep_ratio=False),
{flip}    dict(type='FormatShape', input_format={layout!r}),
    dict(type='PackActionInputs'),
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
"""
VAL_PIPELINE = """\
val_pipeline = [
    dict(type='DecordInit'),
    dict(
        type='SampleFrames',
        clip_len={frames},
        frame_interval={interval},
        num_clips=1,
        test_mode=True,
    ),
    dict(type={decode!r}),
    dict(type='Resize', scale=(-1, {short_side})),
    dict(type='CenterCrop', crop_size={size}),
    dict(type='FormatShape', input_format={layout!r}),
    dict(type='PackActionInputs'),
]
test_pipeline = val_pipeline
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
"""
DTKD = """\
# DT-KD: the student of student_alone.py with both teachers.
_base_ = './_base_/student.py'

# The clip that all models share; each takes its view of it.
{train_pipeline}
here = '{{{{ fileDirname }}}}'
model = dict(
    type='DualTeacherDistiller',
    student=dict(
        cfg=f'{{here}}/student_alone.py',{checkpoint}
        view=dict(frames={student.frames}, size={student.size}),
    ),
    vit_teacher=dict(
        cfg=f'{{here}}/vit_teacher.py',
        checkpoint=f'{{here}}/../work_dirs/vit_teacher/{vit_file}',
        view=dict(frames={vit.frames}, size={vit.size}),
    ),
    cnn_teacher=dict(
        cfg=f'{{here}}/cnn_teacher.py',
        checkpoint=f'{{here}}/../work_dirs/cnn_teacher/{cnn_file}',
        view=dict(frames={cnn.frames}, size={cnn.size}),
    ),
)
work_dir = f'{{here}}/../work_dirs/dtkd'
"""
TABLES = """\
# python tools/reproduce.py --tables THIS_FILE
work_root: work_dirs
seeds: 1
stage_one: [configs/*_teacher.py]
tables:
  project:
    title: {title}
    reference: student alone
    metrics: {{Top-1: acc/top1}}
    rows:
      ViT teacher: {{config: configs/vit_teacher.py, once: true}}
      CNN teacher: {{config: configs/cnn_teacher.py, once: true}}
      student alone: configs/student_alone.py
      DT-KD: {{config: configs/dtkd.py, cache: {cache}}}
"""


def config_files(plan: Plan) -> Dict[str, str]:
    """Returns the configs of a project: name below ``configs/`` -> text."""
    return {
        '_base_/clips.py': clips_text(plan),
        '_base_/student.py': student_base(plan),
        '_base_/teacher.py': budget(
            plan,
            'Training of a teacher: every epoch has new views.',
            SCRATCH / 2,
        ),
        'vit_teacher.py': teacher_config(plan, 'vit_teacher'),
        'cnn_teacher.py': teacher_config(plan, 'cnn_teacher'),
        'student_alone.py': student_config(plan),
        'dtkd.py': dtkd_config(plan),
    }


def clips_text(plan: Plan) -> str:
    """Returns the config of the clips."""
    return CLIPS.format(
        root=plan.root,
        batch=plan.batch,
        workers=plan.workers,
        persistent='\n    persistent_workers=True,' if plan.workers else '',
        delimiter=plan.delimiter,
        num_classes=len(plan.classes),
        test='test' if 'test' in plan.counts else 'val',
    )


def student_base(plan: Plan) -> str:
    """Returns the config of the student's budget, views and validation."""
    lr = PRETRAINED if plan.student.load_from else SCRATCH
    text = budget(
        plan, 'Budget and validation of the student, with and without.', lr
    )
    return f'{text}\n{views_text(plan)}\n{val_pipeline(plan, plan.student)}'


def views_text(plan: Plan) -> str:
    """Returns the views of the training clips."""
    text = '# A clip has so many random views; epochs cycle through them.\n'
    options = f'views={plan.views}'
    if plan.kept:
        text += '# They are decoded once.\n'
        folder = '{{ fileDirname }}/../../work_dirs/views'
        options += f", kept_in='{folder}'"
    return f'{text}train_dataloader = dict(dataset=dict({options}))\n'


def budget(plan: Plan, comment: str, lr: float) -> str:
    """Returns a config of epochs, optimizer and schedule."""
    return BUDGET.format(
        comment=comment,
        epochs=plan.epochs,
        val_interval=max(1, plan.epochs // 10),
        save_interval=max(1, plan.epochs // 20),
        log_interval=min(10, plan.steps),
        warm_up=min(max(1, plan.epochs // 20), plan.epochs - 1),
        lr=lr,
    )


def train_pipeline(plan: Plan, frames: int, size: int, layout: str) -> str:
    """Returns the text of a training pipeline."""
    return TRAIN_PIPELINE.format(
        frames=frames,
        interval=plan.interval_of(frames),
        decode=decoder(plan),
        size=size,
        layout=layout,
        flip="    dict(type='Flip', flip_ratio=0.5),\n" if plan.flip else '',
    )


def val_pipeline(plan: Plan, model: Model) -> str:
    """Returns the text of a validation pipeline."""
    return VAL_PIPELINE.format(
        frames=model.frames,
        interval=plan.interval_of(model.frames),
        decode=decoder(plan),
        size=model.size,
        short_side=round(model.size * 9 / 8),
        layout=layout_of(model),
    )


def decoder(plan: Plan) -> str:
    """Returns the transform that decodes."""
    return 'DecordDecode' if plan.exact else 'FrameExactDecode'


def layout_of(model: Model) -> str:
    """Returns the layout of the clips that a model takes."""
    return 'NCHW' if model.is_2d else 'NCTHW'


def model_text(model: Model) -> str:
    """Returns ``model = dict(...)``."""
    return Config(dict(model=model.model)).pretty_text.strip()


def teacher_config(plan: Plan, argument: str) -> str:
    """Returns the stage-one config of a teacher."""
    model = getattr(plan, argument)
    lines = [
        f'# Stage one: {model.name}.',
        "_base_ = './_base_/teacher.py'",
        '',
        train_pipeline(plan, model.frames, model.size, layout_of(model)),
        val_pipeline(plan, model),
        model_text(model),
    ]
    if model.load_from:
        lines.append(f'load_from = {model.load_from!r}')
    if model.probed:
        pattern = f', group_by={plan.group_by!r}' if plan.group_by else ''
        lines += [
            '# tools/reproduce.py fits the last layer with',
            '# tools/probe_teacher.py and these options, instead of training.',
            f'probe = dict(views=4{pattern})',
        ]
    elif model.load_from:
        lr = PRETRAINED_VIT if argument == 'vit_teacher' else PRETRAINED
        lines.append(f'optim_wrapper = dict(optimizer=dict(lr={lr}))')
    lines.append(f"work_dir = '{{{{ fileDirname }}}}/../work_dirs/{argument}'")
    return '\n'.join(lines) + '\n'


def student_config(plan: Plan) -> str:
    """Returns the config of the student without distillation."""
    model = plan.student
    lines = [
        f'# {model.name} without distillation.',
        "_base_ = './_base_/student.py'",
        '',
        train_pipeline(plan, model.frames, model.size, layout_of(model)),
        model_text(model),
    ]
    if model.load_from:
        lines.append(f'load_from = {model.load_from!r}')
    lines.append("work_dir = '{{ fileDirname }}/../work_dirs/student_alone'")
    return '\n'.join(lines) + '\n'


def dtkd_config(plan: Plan) -> str:
    """Returns the config of the distillation."""

    def file_of(model: Model) -> str:
        return 'probe.pth' if model.probed else 'epoch_*.pth'

    checkpoint = ''
    if plan.student.load_from:
        checkpoint = f'\n        checkpoint={plan.student.load_from!r},'
    return DTKD.format(
        train_pipeline=train_pipeline(
            plan, plan.clip_frames, plan.size, 'NCTHW'
        ),
        student=plan.student,
        checkpoint=checkpoint,
        vit=plan.vit_teacher,
        vit_file=file_of(plan.vit_teacher),
        cnn=plan.cnn_teacher,
        cnn_file=file_of(plan.cnn_teacher),
    )


def tables_text(plan: Plan) -> str:
    """Returns the declaration for ``tools/reproduce.py``."""
    cache = plan.views if plan.cached else 'false'
    # A string of YAML in quotes is one of JSON.
    title = json.dumps(plan.title, ensure_ascii=False)
    return TABLES.format(title=title, cache=cache)
