"""Checkpoints of teachers: classes, kind, and the clips of stage one."""

import pytest
import torch
from mmengine.config import Config
from noise_clips import noise_pipeline
from tiny_models import FRAMES, tiny_distiller

from dtkd_mmaction.config_check import check_config

CLASSES = 4


def problems(path, **view):
    """Problems of a distillation whose CNN teacher is a file."""
    model = tiny_distiller(num_classes=CLASSES)
    model['cnn_teacher'].update(checkpoint=str(path), view=view)
    loader = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='KeyedViewSampler', shuffle=True),
        dataset=dict(
            type='KeyedViewDataset',
            dataset=dict(
                type='CheckedVideoDataset',
                ann_file='s3://not/read.txt',
                pipeline=noise_pipeline(FRAMES, 48),
            ),
        ),
    )
    return check_config(
        Config(dict(model=model, train_dataloader=loader)), strict=True
    )


def write(folder, meta=None, **tensors):
    path = folder / 'teacher.pth'
    state = {name: torch.zeros(shape) for name, shape in tensors.items()}
    torch.save(dict(state_dict=state, meta=meta or {}), path)
    return path


RIGHT = {'backbone.conv.weight': (8, 3), 'cls_head.fc2.weight': (CLASSES, 9)}


def test_a_right_one(tmp_path):
    assert problems(write(tmp_path, **RIGHT)) == []


@pytest.mark.parametrize(
    'tensors, words',
    [
        ({'cls_head.fc2.weight': (400, 9)}, ['400 classes', '4 classes']),
        ({'backbone.conv.weight': (8, 3)}, ['holds no classifier']),
        (
            {'student.cls_head.fc2.weight': (CLASSES, 9)},
            ['distillation run', 'tools/export_student.py'],
        ),
    ],
)
def test_wrong_ones(tmp_path, tensors, words):
    (found,) = problems(write(tmp_path, **tensors))
    for word in ['model.cnn_teacher.checkpoint', 'teacher.pth', *words]:
        assert word in str(found)


def test_one_that_cannot_be_read(tmp_path):
    path = tmp_path / 'teacher.pth'
    path.write_bytes(b'no checkpoint')
    (found,) = problems(path)
    assert 'model.cnn_teacher.checkpoint' in str(found)
    assert 'cannot be read' in str(found)


def test_several_files_match(tmp_path):
    for name in ('best_1.pth', 'best_2.pth'):
        (tmp_path / name).touch()
    (found,) = problems(tmp_path / 'best_*.pth')
    assert 'best_1.pth' in str(found) and 'one is needed' in str(found)


@pytest.mark.parametrize('kind', ['view', 'no view'])
def test_the_teacher_sees_what_it_was_trained_on(tmp_path, kind):
    """The config that the runner stored in the checkpoint says it."""
    first = Config(
        dict(
            train_dataloader=dict(
                dataset=dict(pipeline=noise_pipeline(FRAMES, 32))
            )
        )
    )
    path = write(tmp_path, dict(cfg=first.pretty_text), **RIGHT)
    assert problems(path, size=32) == []
    (found,) = problems(path, **(dict(size=48) if kind == 'view' else {}))
    assert found.warning
    for word in ('model.cnn_teacher.view.size=48 px', 'on 32 px', str(path)):
        assert word in str(found)


def test_a_config_in_a_checkpoint_is_not_executed(tmp_path):
    marker = tmp_path / 'marker'
    text = f"x = open({str(marker)!r}, 'w')"
    path = write(tmp_path, dict(cfg=text), **RIGHT)
    assert problems(path) == []
    assert not marker.exists()
