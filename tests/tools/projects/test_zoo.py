"""Short names lead to stock models with the project's classes."""

import pytest
from mmengine.config import Config
from projects.zoo import ALIASES, CNN, STUDENT, VIT, ZOO, read_model

from dtkd_mmaction.recognizers.model_spec import build_recognizer


@pytest.mark.parametrize('name', list(ZOO))
def test_short_names(name):
    role = ZOO[name].roles[0]
    model = read_model(name, role, 7)
    head = model.model['cls_head']
    assert head.get('num_classes', head.get('video_classes')) == 7
    assert (model.frames, model.size) == (ZOO[name].frames, ZOO[name].size)
    assert model.model['backbone'].get('pretrained') in (None, False)
    for part in (model.model['backbone'], head):
        assert part.get('num_segments', model.frames) == model.frames
    assert model.probed == (name in ('dinov2-s', 'efficientnet-lite0'))


def test_aliases():
    assert set(ALIASES.values()) <= set(ZOO)
    assert read_model('SlowFast', CNN, 3).model == (
        read_model('slowfast_R50', CNN, 3).model
    )


def test_frames_and_size_of_a_student():
    model = read_model('tsm-mobilenetv2', STUDENT, 3, frames=4, size=64)
    assert model.model['backbone']['num_segments'] == 4
    assert (model.frames, model.size, model.is_2d) == (4, 64, True)
    build_recognizer(Config(dict(model=model.model)), 'model')
    fixed = read_model('mvitv2-s', VIT, 3, frames=4, size=64)
    assert (fixed.frames, fixed.size) == (16, 224)


def test_a_config(tmp_path):
    path = tmp_path / 'own.py'
    path.write_text(
        "_base_ = 'mmaction::_base_/models/x3d.py'\nload_from = 'own.pth'\n"
    )
    model = read_model(str(path), STUDENT, 3, frames=8)
    assert (model.frames, model.size, model.load_from) == (8, 224, 'own.pth')


@pytest.mark.parametrize(
    'name, role, message',
    [
        ('x3d-q', STUDENT, 'Did you mean x3d-'),
        ('mvitv2-s', STUDENT, 'cannot be the student'),
        ('nowhere.py', VIT, 'there is no such config'),
        ('dtkd_mmaction::dtkd/x3d_s_hmdb51.py', VIT, 'no recognizer'),
        ('mmaction::recognition/x3d/none.py', CNN, 'cannot be read'),
    ],
)
def test_names_that_are_refused(name, role, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_model(name, role, 3)
    assert str(caught.value).startswith(f'--{role} {name}')
