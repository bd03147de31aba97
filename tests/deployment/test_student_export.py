import os
import os.path as osp

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from tiny_models import (
    FRAMES,
    NUM_CLASSES,
    SIZE,
    tiny_distiller,
    tiny_tsn,
    tiny_x3d,
)

from dtkd_mmaction.engine import (
    StudentExportHook,
    student_checkpoint,
    student_config,
)
from dtkd_mmaction.recognizers.complexity import measure_complexity
from dtkd_mmaction.recognizers.model_spec import build_recognizer


def distiller_config(**overrides):
    dataset = dict(
        type='CheckedVideoDataset', max_unreadable=3, ann_file='val.txt'
    )
    return Config(
        dict(
            default_scope='mmaction',
            custom_imports=dict(imports=['dtkd_mmaction']),
            model=tiny_distiller(**overrides),
            train_dataloader=dict(dataset=dict(dataset, ann_file='a.txt')),
            test_dataloader=dict(batch_size=1, dataset=dataset),
            test_evaluator=dict(type='AccMetric'),
            test_cfg=dict(type='TestLoop'),
        )
    )


def checkpoint_of(config):
    distiller = MODELS.build(config.model)
    return distiller, dict(
        meta=dict(epoch=3, cfg=config.pretty_text),
        state_dict=distiller.state_dict(),
        optimizer=dict(state={}),
        message_hub=dict(),
    )


@pytest.mark.parametrize('student', [tiny_x3d(), tiny_tsn()])
def test_keys_and_values_are_the_stock_models(student):
    config = distiller_config(student=dict(cfg=student))
    distiller, checkpoint = checkpoint_of(config)
    exported = student_checkpoint(checkpoint)
    assert set(exported) == {'meta', 'state_dict'}
    stock = build_recognizer(Config(dict(model=student)), 'model')
    assert list(exported['state_dict']) == list(stock.state_dict())
    stock.load_state_dict(exported['state_dict'], strict=True)
    for name, value in distiller.student.state_dict().items():
        assert torch.equal(value, stock.state_dict()[name])


def test_costs_what_the_stock_model_costs():
    config = distiller_config()
    stock = Config(dict(model=tiny_x3d()))
    assert measure_complexity(
        student_config(config), FRAMES, SIZE
    ) == measure_complexity(stock, FRAMES, SIZE)


def test_meta_is_kept_and_its_config_is_the_students():
    _, checkpoint = checkpoint_of(distiller_config())
    meta = student_checkpoint(checkpoint)['meta']
    assert meta['epoch'] == 3
    assert meta['distilled_by'].startswith('dtkd_mmaction')
    config = Config.fromstring(meta['cfg'], '.py')
    assert config.model.type == 'Recognizer3D'
    assert checkpoint['meta']['cfg'] != meta['cfg']  # the input is not changed


def test_the_students_config_does_not_know_this_package():
    config = student_config(distiller_config(num_classes=9))
    assert config.model.cls_head.num_classes == 9
    assert config.test_dataloader.dataset == dict(
        type='VideoDataset', ann_file='val.txt'
    )
    text = config.pretty_text
    for word in ('dtkd', 'Distiller', 'CheckedVideoDataset', 'teacher'):
        assert word not in text


def test_a_student_that_mmaction2_lacks_brings_its_import():
    student = tiny_x3d()
    student['backbone'] = dict(type='MoViNet', arch='a0')
    config = student_config(distiller_config(student=dict(cfg=student)))
    assert config.custom_imports.imports == ['dtkd_mmaction']


def test_a_stock_checkpoint_needs_no_export():
    stock = build_recognizer(Config(dict(model=tiny_x3d())), 'model')
    with pytest.raises(ValueError, match='no student in this checkpoint'):
        student_checkpoint(dict(state_dict=stock.state_dict()))


class TestHook:
    """The hook alone; in a run it is part of test_end_to_end.py."""

    @pytest.fixture
    def runner(self, tmp_path):
        checkpoints = CheckpointHook(interval=1)
        checkpoints.out_dir = str(tmp_path)
        config = distiller_config()

        class Runner:
            hooks = [checkpoints]
            cfg = config
            train_loop = object()

        return Runner

    def save(self, folder, name):
        _, checkpoint = checkpoint_of(distiller_config())
        torch.save(checkpoint, folder / name)

    def test_mirrors_what_is_kept(self, runner, tmp_path):
        hook = StudentExportHook()
        hook.before_train(runner)
        self.save(tmp_path, 'epoch_1.pth')
        hook.after_train_epoch(runner)
        assert osp.isfile(tmp_path / 'student_epoch_1.pth')
        os.remove(tmp_path / 'epoch_1.pth')  # max_keep_ckpts
        self.save(tmp_path, 'best_acc_top1_epoch_2.pth')
        hook.after_val_epoch(runner)
        names = {p.name for p in tmp_path.glob('*.pth')}
        assert names == {
            'best_acc_top1_epoch_2.pth',
            'student_best_acc_top1_epoch_2.pth',
        }
        config = Config.fromfile(tmp_path / 'student_config.py')
        assert config.model.cls_head.num_classes == NUM_CLASSES

    def test_does_not_export_twice(self, runner, tmp_path):
        hook = StudentExportHook()
        hook.before_train(runner)
        self.save(tmp_path, 'epoch_1.pth')
        hook.after_train_epoch(runner)
        written = osp.getmtime(tmp_path / 'student_epoch_1.pth')
        hook.after_val_epoch(runner)
        again = StudentExportHook()
        again.before_train(runner)
        again.after_train_epoch(runner)
        assert osp.getmtime(tmp_path / 'student_epoch_1.pth') == written

    def test_leaves_a_students_file_of_another_run_alone(
        self, runner, tmp_path
    ):
        (tmp_path / 'student_mine.pth').write_bytes(b'mine')
        hook = StudentExportHook()
        hook.before_train(runner)
        hook.after_train_epoch(runner)
        assert (tmp_path / 'student_mine.pth').exists()

    def test_stock_training_is_not_touched(self, runner, tmp_path):
        hook = StudentExportHook()
        hook.before_train(runner)
        stock = build_recognizer(Config(dict(model=tiny_x3d())), 'model')
        torch.save(
            dict(state_dict=stock.state_dict()), tmp_path / 'epoch_1.pth'
        )
        hook.after_train_epoch(runner)
        assert not osp.isfile(tmp_path / 'student_epoch_1.pth')
