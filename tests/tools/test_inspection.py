"""One view of every clip that has no chance in it."""

import os.path as osp

import numpy as np
import pytest
import torch
from inspection import (
    ask_student,
    build_distiller,
    centre_pipeline,
    centred_dataset,
    innermost,
    load_exactly,
    student_state,
)
from mmengine.config import Config
from mmengine.dataset import Compose
from tiny_distillation import ROOT, SIZE, write_distillation
from tiny_models import FRAMES, tiny_x3d


@pytest.mark.parametrize(
    'name',
    ['hmdb51', 'kinetics400', 'sthv2', 'epic_kitchens', 'hmdb51_8frames'],
)
def test_is_the_view_with_which_stage_one_was_evaluated(name):
    path = osp.join(ROOT, f'configs/_base_/datasets/{name}.py')
    config = Config.fromfile(path)
    training = innermost(config.train_dataloader.dataset).pipeline
    centred = centre_pipeline(training)
    # of the size that the clip has by then
    assert (
        centred.count(dict(type='Resize', scale=(224, 224), keep_ratio=False))
        == 1
    )
    centred = [t for t in centred if t.get('keep_ratio') is not False]
    assert centred == innermost(config.val_dataloader.dataset).pipeline


def test_a_crop_of_the_whole_frame_where_nothing_resized_it():
    crop = [dict(type='RandomResizedCrop')]
    crop.append(dict(type='Resize', scale=(64, 64), keep_ratio=False))
    centred = centre_pipeline(crop)
    assert centred[:2] == [
        dict(type='Resize', scale=(-1, 64)),
        dict(type='CenterCrop', crop_size=64),
    ]
    assert crop[0] == dict(type='RandomResizedCrop')  # as it was
    image = np.zeros((30, 60, 3), np.uint8)
    image[:, 15:45] = 255
    results = dict(imgs=[image], modality='RGB', original_shape=(30, 60))
    results = Compose(centred)(dict(results, img_shape=(30, 60)))
    assert results['imgs'][0].shape == (64, 64, 3)
    assert results['imgs'][0][:, 2:-2].min() == 255


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    return write_distillation(tmp_path_factory.mktemp('inspection'))


def test_clips_are_the_lists_and_do_not_change(path):
    config = Config.fromfile(path)
    for split, count in (('train', 3), ('val', 8)):
        dataset = centred_dataset(config, split)
        assert len(dataset) == count
        first, again = (dataset.prepare_data(1)['inputs'] for _ in range(2))
        assert first.shape == (1, 3, FRAMES, SIZE, SIZE)
        assert torch.equal(first, again)


def test_teachers_are_live_and_still(path, tmp_path):
    options = {
        'model.teacher_cache': str(tmp_path),
        'model.teacher_mode': 'bn_eval_only',
    }
    _, distiller = build_distiller(path, options)
    assert distiller.teacher_cache is None
    teachers = distiller.teachers.values()
    models = [distiller, *(teacher.recognizer for teacher in teachers)]
    assert len(models) == 3
    assert not any(m.training for model in models for m in model.modules())


def test_a_runs_checkpoint_and_its_export_are_the_same_student(path, tmp_path):
    _, distiller = build_distiller(path)
    state = distiller.state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'run.pth')
    torch.save(
        dict(state_dict=distiller.student.state_dict()),
        tmp_path / 'student.pth',
    )
    run = student_state(str(tmp_path / 'run.pth'))
    exported = student_state(str(tmp_path / 'student.pth'))
    assert list(run) == list(exported)
    clips = torch.randint(0, 255, (2, 1, 3, FRAMES, SIZE, SIZE))
    _, other = build_distiller(path)
    before = ask_student(other, clips).logits
    load_exactly(other.student, run, 'run.pth')
    expected = ask_student(distiller, clips).logits
    assert not torch.equal(before, expected)
    assert torch.equal(ask_student(other, clips).logits, expected)
    run.popitem()
    with pytest.raises(ValueError, match=r'cut.pth does not fit the config'):
        load_exactly(other.student, run, 'cut.pth')


def test_a_stock_config_is_refused(path, tmp_path):
    config = Config.fromfile(path)
    config.model = tiny_x3d()
    config.dump(tmp_path / 'stock.py')
    with pytest.raises(ValueError, match='its model is a Recognizer3D'):
        build_distiller(str(tmp_path / 'stock.py'))
