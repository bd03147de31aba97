"""The optimizer constructors of MMAction2, on the student of a distiller."""

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.optim import build_optim_wrapper
from tiny_models import (
    FRAMES,
    SIZE,
    tiny_distiller,
    tiny_mvit,
    tiny_tsn,
)

from dtkd_mmaction.recognizers.model_spec import build_recognizer, load_config

VIEW = dict(frames=FRAMES, size=SIZE)
CONSTRUCTORS = dict(
    tsm=(
        tiny_tsn,
        dict(
            constructor='TSMOptimWrapperConstructor',
            paramwise_cfg=dict(fc_lr5=True),
        ),
    ),
    layer_decay=(
        tiny_mvit,
        dict(
            constructor='LearningRateDecayOptimizerConstructor',
            paramwise_cfg=dict(num_layers=2, decay_rate=0.5),
        ),
    ),
    swin=(
        tiny_mvit,
        dict(
            constructor='SwinOptimWrapperConstructor',
            paramwise_cfg=dict(backbone=dict(lr_mult=0.1)),
        ),
    ),
    custom_keys=(
        tiny_mvit,
        dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1)))),
    ),
)


def settings(model, constructor):
    """Parameter's name -> its learning rate and weight decay."""
    optimizer = build_optim_wrapper(
        model,
        dict(
            optimizer=dict(type='SGD', lr=0.1, weight_decay=1e-3),
            **constructor,
        ),
    ).optimizer
    names = {id(p): name for name, p in model.named_parameters()}
    found = {}
    for group in optimizer.param_groups:
        for parameter in group['params']:
            name = names[id(parameter)]
            assert name not in found, name
            found[name] = group['lr'], group['weight_decay']
    return found


@pytest.mark.parametrize('name', CONSTRUCTORS)
@pytest.mark.parametrize('wrapped', [False, True])
def test_the_student_is_treated_as_alone(name, wrapped):
    cfg, constructor = CONSTRUCTORS[name]
    stock = build_recognizer(load_config(dict(cfg=cfg()), 'm'), 'm')
    alone = settings(stock, constructor)
    distiller = MODELS.build(
        tiny_distiller(student=dict(cfg=cfg(), view=VIEW))
    )
    if wrapped:  # as DistributedDataParallel keeps it
        model = torch.nn.Module()
        model.module = distiller
        names = {f'module.{n}': n for n, _ in distiller.named_parameters()}
        found = {names[n]: s for n, s in settings(model, constructor).items()}
    else:
        found = settings(distiller, constructor)
    assert {
        name[len('student.') :]: setting
        for name, setting in found.items()
        if name.startswith('student.')
    } == alone
    trained = {n for n, p in distiller.named_parameters() if p.requires_grad}
    assert trained <= set(found)
    branch = {n: s for n, s in found.items() if n.startswith('branch.')}
    assert branch
    assert set(branch.values()) == {(0.1, 1e-3)}


def test_tsm_gives_the_classifier_its_rates():
    """5 and 10 times the base; not to the last convolution of the branch."""
    cfg, constructor = CONSTRUCTORS['tsm']
    found = settings(
        MODELS.build(tiny_distiller(student=dict(cfg=cfg(), view=VIEW))),
        constructor,
    )
    assert found['student.cls_head.fc_cls.weight'][0] == pytest.approx(0.5)
    assert found['student.cls_head.fc_cls.bias'][0] == pytest.approx(1.0)
