"""Every compared method with every kind of model, and what it exports."""

import copy
import os.path as osp
from glob import glob

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from test_configs import ROOT
from tiny_models import (
    FRAMES,
    SIZE,
    batch,
    tiny_mvit,
    tiny_single_teacher,
    tiny_tsn,
    tiny_x3d,
)

from dtkd_mmaction.deployment.student_export import student_checkpoint
from dtkd_mmaction.recognizers.model_spec import build_recognizer, load_config

VIEW = dict(frames=FRAMES, size=SIZE)
METHODS = {
    osp.basename(path)[:-3]: Config.fromfile(path).losses
    for path in sorted(glob(f'{ROOT}/configs/_base_/losses/*.py'))
}
PAIRS = dict(
    cnn_from_vit=(tiny_x3d, tiny_mvit),
    vit_from_cnn=(tiny_mvit, tiny_x3d),
    frames_from_clip=(tiny_tsn, tiny_x3d),
    clip_from_frames=(tiny_x3d, tiny_tsn),
)


def build(method, student, teacher):
    torch.manual_seed(0)
    losses = copy.deepcopy(METHODS[method])
    if method == 'crd':
        losses.crd.update(num_samples=16, negatives=4)
    return MODELS.build(
        tiny_single_teacher(
            student=dict(cfg=student(), view=VIEW),
            teacher=dict(cfg=teacher(), checkpoint=None, view=VIEW),
            losses=losses,
        )
    )


def train(distiller, size=4):
    data = batch(size)
    for i, sample in enumerate(data['data_samples']):
        sample.set_metainfo(dict(sample_idx=i))
    optimizer = OptimWrapper(torch.optim.SGD(distiller.parameters(), lr=1e-3))
    return distiller.train_step(data, optimizer)


@pytest.mark.parametrize('pair', PAIRS)
@pytest.mark.parametrize('method', METHODS)
def test_any_pair(method, pair):
    distiller = build(method, *PAIRS[pair])
    teacher = {
        name: value.clone()
        for name, value in distiller.teachers['teacher'].state_dict().items()
    }
    logs = train(distiller)
    for name in METHODS[method]:
        assert f'loss_{name}' in logs
        assert logs[f'loss_{name}'] != 0
    for name, value in distiller.teachers['teacher'].state_dict().items():
        assert torch.equal(value, teacher[name]), name


@pytest.mark.parametrize('method', METHODS)
def test_a_batch_of_one(method):
    """The last batch of an epoch; relations then have nothing to say."""
    logs = train(build(method, tiny_tsn, tiny_x3d).eval(), size=1)
    assert all(value == value for value in logs.values())


@pytest.mark.parametrize('method', METHODS)
def test_exports_the_stock_student(method):
    distiller = build(method, tiny_x3d, tiny_mvit)
    train(distiller)
    checkpoint = student_checkpoint(dict(state_dict=distiller.state_dict()))
    stock = build_recognizer(load_config(dict(cfg=tiny_x3d()), 'm'), 'm')
    stock.load_state_dict(checkpoint['state_dict'], strict=True)
    distiller.eval()
    stock.eval()
    data = batch(pixels=SIZE)
    scores = [
        torch.stack([s.pred_score for s in model.test_step(data)])
        for model in (stock, distiller)
    ]
    assert torch.equal(*scores)
