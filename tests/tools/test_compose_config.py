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
    ],
)
def test_what_cannot_be_composed(tmp_path, monkeypatch, pair, method, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        tool.main([pair, method])
    assert not list(tmp_path.iterdir())
