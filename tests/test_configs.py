"""Every config of the repository is one that MMEngine can read and build."""

import collections
import copy
import functools
import os.path as osp
import re
from glob import glob

import metafiles
import pytest
import yaml
from compose_config import FUSIONS, compose, config_names, known_methods
from mmengine.config import Config

from dtkd_mmaction.recognizers.model_spec import (
    build_recognizer,
    forget_pretraining,
    load_config,
    set_num_classes,
)

ROOT = osp.dirname(osp.dirname(__file__))
CONFIGS = sorted(
    osp.relpath(path, ROOT)
    for path in glob(f'{ROOT}/configs/**/*.py', recursive=True)
    if '_base_' not in path
)


# Name of the pair's config and the method -> both. They have no file.
COMPOSED = {
    f'{pair} {method}': (pair, method)
    for pair in (
        'configs/dtkd/x3d_s_hmdb51.py',
        'configs/dtkd/slowfast_r50_hmdb51.py',
        'configs/dtkd/movinet_a2_hmdb51.py',
    )
    for method in sorted({*known_methods()} - {*config_names(FUSIONS)})
    if method not in ('at', 'dkd', 'mgd', 'pixelkd')  # they have a file
}
COMPOSED.update(
    {
        f'configs/ucf6/{pair} {method}': (f'configs/ucf6/{pair}', method)
        for pair in ('ucf6_dtkd.py',)
        for method in config_names(FUSIONS)
    }
)


@functools.lru_cache(maxsize=None)
def parsed(path):
    if path in COMPOSED:
        pair, method = COMPOSED[path]
        text = compose(osp.join(ROOT, pair), method)
        return Config.fromstring(text, '.py')
    return Config.fromfile(osp.join(ROOT, path))


def read(path):
    return copy.deepcopy(parsed(path))


@pytest.mark.parametrize('path', [*CONFIGS, *COMPOSED])
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


def named_configs(value):
    """All `cfg` entries of a model that name a file of their own."""
    if isinstance(value, dict):
        cfg = value.get('cfg')
        if isinstance(cfg, str) and '::' not in cfg:
            yield cfg
        for child in value.values():
            yield from named_configs(child)


@pytest.mark.parametrize('path', CONFIGS)
def test_named_configs_exist(path):
    for cfg in named_configs(parsed(path).model):
        assert osp.isfile(osp.join(ROOT, cfg)), cfg


# Folder that a teacher is trained into -> its config.
STAGE_ONE = {
    parsed(path).work_dir: path
    for path in CONFIGS
    if path.startswith('configs/teachers/')
}


def parameter_shapes(model):
    recognizer = build_recognizer(Config(dict(model=model)), 'model')
    return {n: p.shape for n, p in recognizer.named_parameters()}


def test_stage_one_trains_the_models_that_stage_two_loads():
    """Same layers, classes and normalisation in both stages."""
    compared = {}
    for path in [*CONFIGS, *COMPOSED]:
        for argument in ('vit_teacher', 'cnn_teacher', 'teacher'):
            model = parsed(path).model
            spec = model.get(argument)
            found = re.search(
                r'work_dirs/(teachers/\w+)/',
                (spec or {}).get('checkpoint', ''),
            )
            if found is None:
                continue
            stage_one = STAGE_ONE[found[0].rstrip('/')]
            key = (stage_one, spec.cfg, model.get('num_classes'))
            if key not in compared:
                compared[key] = spec
    assert len(compared) > 5
    for (stage_one, _, num_classes), spec in compared.items():
        ours = read(stage_one).model
        theirs = load_config(spec, 'teacher').model
        set_num_classes(theirs, num_classes)
        for model in (ours, theirs):
            forget_pretraining(model)
        for part in ('mean', 'std'):
            assert (
                theirs.data_preprocessor[part] == ours.data_preprocessor[part]
            ), stage_one
        assert parameter_shapes(theirs) == parameter_shapes(ours), stage_one


@pytest.mark.parametrize(
    'path',
    [path for path in CONFIGS if re.match(r'configs/baselines/\w+/', path)],
)
def test_files_of_the_paper_are_as_composed(path):
    """The files of the paper's rows follow the same template."""
    pair, method = re.search(r'/(\w+)_([a-z]+)\.py$', path).groups()
    text = compose(f'{ROOT}/configs/dtkd/{pair}.py', method)
    assert Config.fromstring(text, '.py').to_dict() == parsed(path).to_dict()


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


def test_no_two_configs_have_one_name():
    """``mim train dtkd_mmaction NAME.py`` looks for it in the package."""
    paths = glob(f'{ROOT}/configs/**/*.py', recursive=True)
    names = collections.Counter(map(osp.basename, paths))
    assert [name for name, times in names.items() if times > 1] == []
    others = {
        osp.basename(path)
        for folder in ('dtkd_mmaction', 'tools')
        for path in glob(f'{ROOT}/{folder}/**/*.py', recursive=True)
    }
    assert not others & set(map(osp.basename, CONFIGS))


def test_metafiles_are_up_to_date():
    """OpenMMLab's index: every config of a published data set is in it."""
    index = yaml.safe_load(open(osp.join(ROOT, 'model-index.yml')))
    models = []
    for path in index['Import']:
        models += yaml.safe_load(open(osp.join(ROOT, path)))['Models']
    assert sorted(model['Config'] for model in models) == [
        path
        for path in CONFIGS
        if not path.startswith(('configs/demo', 'configs/ucf6'))
    ]
    for name, text in metafiles.files().items():
        with open(osp.join(ROOT, name)) as f:
            assert f.read() == text, 'run: python tools/metafiles.py'


def test_a_config_of_an_unknown_data_set(tmp_path):
    (tmp_path / 'configs/dtkd').mkdir(parents=True)
    (tmp_path / 'configs/dtkd/x3d_s_other.py').touch()
    with pytest.raises(SystemExit, match='x3d_s_other.py: its name holds'):
        metafiles.metafile('dtkd', str(tmp_path))
