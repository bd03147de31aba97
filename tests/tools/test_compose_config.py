"""A config of a compared method for any pair, written for its user."""

import os.path as osp

import compose_config as tool
import pytest
from mmengine.config import Config

PAIR = osp.join(tool.CONFIGS, 'dtkd/slowfast_r50_hmdb51.py')


def test_writes_a_config_that_can_be_moved(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tool.main(['dtkd/slowfast_r50_hmdb51.py', 'cakd'])
    text = (tmp_path / 'slowfast_r50_hmdb51_cakd.py').read_text()
    assert "'dtkd_mmaction::dtkd/slowfast_r50_hmdb51.py'" in text
    assert "'dtkd_mmaction::_base_/losses/cakd.py'" in text
    assert str(tool.CONFIGS) not in text
    assert 'mim train dtkd_mmaction slowfast_r50_hm' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='--out: .*_cakd.py exists already'):
        tool.main(['dtkd/slowfast_r50_hmdb51.py', 'cakd'])


def test_a_pair_of_the_users_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine.py').write_text(
        f'_base_ = {PAIR!r}\nmodel = dict(num_classes=7)\n'
    )
    tool.main(['mine.py', 'takd', '--out', 'new.py'])
    assert f"'{tmp_path}/mine.py'," in (tmp_path / 'new.py').read_text()
    text = tool.compose('mine.py', 'takd')
    model = Config.fromstring(text, '.py').model
    pair = Config.fromfile(PAIR).model
    assert model.num_classes == 7
    assert model.student == pair.student
    assert 'r2plus1d' in model.teacher.cfg
    assert model.teacher.view == pair.vit_teacher.view
    assert list(model.losses) == ['kd']


FUSION_TYPES = dict(
    average='AverageKDLoss',
    average_logits='AverageKDLoss',
    ebkd='EBKDLoss',
    camkd='CAMKDLoss',
    camkd_feature='CAMKDLoss',
    aekd='AEKDLoss',
    unic='UNICDropLoss',
    confidence='DATWLoss',
    discrepancy='DATWLoss',
    datw='DATWLoss',
)


def test_every_fusion_is_known():
    assert set(tool.config_names(tool.FUSIONS)) == set(FUSION_TYPES)


@pytest.mark.parametrize('method', FUSION_TYPES)
def test_a_loss_over_several_teachers(method):
    pair = Config.fromfile(PAIR).model
    model = Config.fromstring(tool.compose(PAIR, method), '.py').model
    assert model.loss_sr.type == FUSION_TYPES[method]
    # Options of the loss that it replaces are gone.
    path = osp.join(tool.CONFIGS, tool.FUSIONS, f'{method}.py')
    assert model.loss_sr == Config.fromfile(path).fusion_loss
    assert model.loss_sd is None and model.loss_rkd is None
    for key in ('type', 'student', 'vit_teacher', 'cnn_teacher'):
        assert model[key] == pair[key]
    three = osp.join(tool.CONFIGS, 'ucf6/ucf6_three_teachers.py')
    model = Config.fromstring(tool.compose(three, method), '.py').model
    assert model.type == 'MultiTeacherDistiller'
    assert model.fusion_loss.type == FUSION_TYPES[method]
    assert list(model.teachers) == ['vit', 'cnn', 'weak']


@pytest.mark.parametrize(
    'pair, method, message',
    [
        ('nowhere.py', 'kd', 'PAIR: neither nowhere.py nor .* is a file'),
        (
            'dtkd/x3d_s_hmdb51.py',
            'kkd',
            "method='kkd': expected one of .*'kd'",
        ),
        (
            'teachers/x3d_m_hmdb51.py',
            'kd',
            "model.type is 'Recognizer3D'. Expected a config of DualTeacher",
        ),
        (
            'teachers/x3d_m_hmdb51.py',
            'ebkd',
            "model.type is 'Recognizer3D'. .*'MultiTeacherDistiller'",
        ),
    ],
)
def test_what_cannot_be_composed(tmp_path, monkeypatch, pair, method, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        tool.main([pair, method])
    assert not list(tmp_path.iterdir())
