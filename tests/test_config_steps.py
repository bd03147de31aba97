"""Every config builds its model and takes a training step, at a small size.

The models are those of the config; clips are short and small, and no weights
are downloaded.
"""

import gc
import os.path as osp

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from test_configs import COMPOSED, CONFIGS, read
from tiny_models import batch

from dtkd_mmaction.distillers import base
from dtkd_mmaction.recognizers.model_spec import (
    forget_pretraining,
    load_config,
)

FRAMES, SIZE = 8, 64
SPECS = ('student', 'vit_teacher', 'cnn_teacher', 'teacher', 'peer')
DISTILLED = [
    path
    for path in CONFIGS
    if path.split('/')[1] in ('dtkd', 'baselines', 'ablations')
    or (path.startswith('configs/ucf6') and 'student' in read(path).model)
] + [*COMPOSED]
ALONE = [path for path in CONFIGS if path.startswith('configs/teachers')]
# Sizes of the clip that are built into the model.
BUILT_IN = dict(
    TimeSformer=dict(img_size=SIZE),
    UniFormerV2=dict(input_resolution=SIZE),
)


@pytest.fixture(autouse=True, scope='module')
def quick_collection():
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def fresh_memory(quick_collection):
    yield
    gc.collect()


@pytest.fixture(autouse=True, scope='module')
def each_teacher_is_built_once():
    """Ninety configs share a few teachers."""
    built, FrozenTeacher = {}, base.FrozenTeacher

    class Shared(FrozenTeacher):
        def __new__(cls, spec, num_classes, key, mode):
            name = f'{dict(spec)} {num_classes}'
            if name not in built:
                built[name] = FrozenTeacher(spec, num_classes, key, mode)
            return built[name]

        check_spec = staticmethod(FrozenTeacher.check_spec)

    patch = pytest.MonkeyPatch()
    patch.setattr(base, 'FrozenTeacher', Shared)
    yield
    patch.undo()


def small(spec):
    model = load_config(spec, 'model').model
    # DINOv2 takes multiples of its patches of 14 px.
    size = 56 if 'patch14' in model.backbone.type else SIZE
    spec = dict(spec, checkpoint=None, view=dict(frames=FRAMES, size=size))
    forget_pretraining(model)
    return dict(spec, cfg=model.to_dict())


def step(model, labels=None):
    data = batch(2, FRAMES, SIZE)
    for i, sample in enumerate(data['data_samples']):
        sample.set_metainfo(dict(sample_idx=i))
        if labels is not None:
            sample.set_gt_label(labels)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-4))
    return model.train_step(data, optimizer)


def labels_of(model):
    """(verb, noun) where the head has two parts."""
    return [1, 2] if hasattr(model.cls_head, 'class_counts') else None


def first_weight(recognizer):
    return next(recognizer.backbone.parameters()).detach()


@pytest.mark.parametrize('path', DISTILLED)
def test_distillation(path):
    config = read(path)
    for name in SPECS:
        if config.model.get(name):
            config.model[name] = small(config.model[name])
    for name, spec in config.model.get('teachers', {}).items():
        config.model.teachers[name] = small(spec)
    distiller = MODELS.build(config.model)
    before = first_weight(distiller.student).clone()
    logs = step(distiller, labels_of(distiller.student))
    for name, loss in (config.model.get('losses') or {}).items():
        if loss is not None:  # loss_kd, or loss_kd_verb and loss_kd_noun
            assert any(key.startswith(f'loss_{name}') for key in logs), logs
    if config.model.type == 'DualTeacherDistiller':
        for name in ('loss_sr', 'loss_sd', 'loss_rkd'):
            assert any(key.startswith(name) for key in logs) == (
                config.model.get(name, 'default') is not None
            )
    assert not torch.equal(before, first_weight(distiller.student))


@pytest.mark.parametrize('path', ALONE)
def test_alone(path):
    model = read(path).model
    forget_pretraining(model)
    model.backbone.update(BUILT_IN.get(model.backbone.type, {}))
    with DefaultScope.overwrite_default_scope('mmaction'):
        recognizer = MODELS.build(model)
    logs = step(recognizer, labels_of(recognizer))
    assert logs['loss'] > 0


def test_work_dirs_do_not_collide():
    """MMEngine names a run after its file, unless the config says more."""
    folders = [
        read(path).get('work_dir', osp.basename(path))
        for path in DISTILLED + ALONE
    ]
    assert len(set(folders)) == len(folders)
