"""Every config of the repository is one that MMEngine can read and build."""

import os.path as osp
from glob import glob

import pytest
from mmengine.config import Config

from dtkd_mmaction.distillers.model_spec import (
    build_recognizer,
    load_config,
    set_num_classes,
)

ROOT = osp.dirname(osp.dirname(__file__))
CONFIGS = sorted(
    osp.relpath(path, ROOT)
    for path in glob(f'{ROOT}/configs/**/*.py', recursive=True)
    if '_base_' not in path
)


def read(path):
    return Config.fromfile(osp.join(ROOT, path))


@pytest.mark.parametrize('path', CONFIGS)
def test_config_is_complete(path):
    config = read(path)
    assert config.custom_imports.imports == ['dtkd_mmaction']
    for section in (
        'model',
        'train_dataloader',
        'val_dataloader',
        'test_dataloader',
        'optim_wrapper',
        'train_cfg',
    ):
        assert config.get(section) is not None, section


@pytest.mark.parametrize(
    'path', [path for path in CONFIGS if path.startswith('configs/teachers')]
)
def test_stage_one_trains_the_model_that_stage_two_loads(path):
    """Same layers, classes and normalisation in both stages."""
    name = osp.basename(path)[:-3]
    model = read(path).model
    used = 0
    for distilled in CONFIGS:
        config = read(distilled)
        for argument in ('vit_teacher', 'cnn_teacher', 'teacher'):
            spec = config.model.get(argument)
            if spec is None or f'/{name}/' not in (spec.checkpoint or ''):
                continue
            used += 1
            teacher = load_config(spec, argument).model
            set_num_classes(teacher, config.model.num_classes)
            for part in ('mean', 'std'):
                assert (
                    teacher.data_preprocessor[part]
                    == model.data_preprocessor[part]
                )
            ours, theirs = (
                build_recognizer(Config(dict(model=m)), argument)
                for m in (teacher, model)
            )
            assert {n: p.shape for n, p in ours.named_parameters()} == {
                n: p.shape for n, p in theirs.named_parameters()
            }
    assert used


def test_the_papers_row():
    """Table 1 and section 4.2, where they say what the config must be."""
    config = read('configs/dtkd/x3d_s_hmdb51.py')
    assert config.train_dataloader.batch_size == 64
    assert config.optim_wrapper.optimizer.type == 'SGD'
    assert config.optim_wrapper.optimizer.lr == 0.01
    assert config.param_scheduler[0].type == 'MultiStepLR'
    model = config.model
    assert 'x3d_s' in model.student.cfg
    assert 'mvit-small' in model.vit_teacher.cfg
    assert 'x3d_m' in model.cnn_teacher.cfg
    for spec in (model.student, model.vit_teacher, model.cnn_teacher):
        assert spec.view.frames == 16
    assert model.student.checkpoint.startswith('https://')
