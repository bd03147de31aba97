"""No false alarm: configs that train today have no problem."""

import functools
import os.path as osp
from glob import glob

import mmaction
import pytest
from mmengine.config import Config
from test_configs import CONFIGS, read

from dtkd_mmaction.config_check import check_config, checkpoints, views
from dtkd_mmaction.recognizers import model_spec

STOCK = osp.join(osp.dirname(mmaction.__file__), '.mim/configs/recognition')
# Problems of released configs: the key is wrong there, so building fails.
STOCK_PROBLEMS = {
    'tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x16-50e_kinetics400-rgb.py': {
        'val_dataloader.dataset.pipeline.2.io_backend'
    },
    'tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x16-50e_sthv2-rgb.py': {
        'test_dataloader.pipeline',
        'test_dataloader.test_mode',
    },
}


# Of a stock augmentation; the package does not work with a current PyTorch.
MISSING_PACKAGE = 'Install pytorchvideo to use PytorchVideoTrans'

# Folder of a teacher's checkpoints -> the config that trains it.
STAGE_ONE = {
    read(path).work_dir: path for path in CONFIGS if 'work_dir' in read(path)
}


def stage_one(spec, files):
    """Finds the stage-one config without reading a checkpoint."""
    folder = osp.dirname(spec.spec.get('checkpoint') or '')
    if folder in STAGE_ONE:
        return read(STAGE_ONE[folder]), STAGE_ONE[folder]
    return checkpoints.stage_one(spec, files)


@pytest.fixture(scope='module', autouse=True)
def each_file_is_read_once():
    """A hundred configs name the same ten models."""
    cached = functools.lru_cache(maxsize=None)(model_spec.get_config)
    patch = pytest.MonkeyPatch()
    patch.setattr(model_spec, 'get_config', lambda name: cached(name).copy())
    patch.setattr(views, 'stage_one', stage_one)
    yield
    patch.undo()


@pytest.mark.parametrize('path', CONFIGS)
def test_our_configs_have_no_problem(path):
    """Their views are those of stage one, too: also no warning."""
    found = check_config(read(path), files=False, strict=True)
    assert not found, '\n'.join(map(str, found))


def test_a_view_that_stage_one_has_not_seen_is_named():
    """X3D-S was shown 224 px as a teacher, and is trained at 160."""
    config = read('configs/dtkd/x3d_s_ssv2.py')
    config.model.cnn_teacher.view.size = 224
    folder = osp.dirname(config.model.cnn_teacher.checkpoint)
    found = check_config(config, files=False, strict=True)
    assert [p.key for p in found] == ['model.cnn_teacher.view.size']
    assert f'({STAGE_ONE[folder]}) on 160 px' in str(found[0])


def test_stock_configs_have_no_problem():
    """All 125, which takes a while: a false alarm would stop a training."""
    paths = sorted(glob(f'{STOCK}/**/*.py', recursive=True))
    assert len(paths) > 100
    for path in paths:
        found = check_config(Config.fromfile(path), files=False, strict=True)
        name = osp.relpath(path, STOCK)
        errors = {
            p.key
            for p in found
            if not p.warning and not p.text.endswith(MISSING_PACKAGE)
        }
        assert errors == STOCK_PROBLEMS.get(name, set()), (name, found)
