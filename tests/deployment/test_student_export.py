import contextlib
import os.path as osp
import sys
import textwrap

import export_student
import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from tiny_models import (
    FRAMES,
    NUM_CLASSES,
    SIZE,
    image_recognizer,
    tiny_distiller,
    tiny_tsn,
    tiny_x3d,
)

from dtkd_mmaction.deployment.student_export import (
    exported_configs,
    student_checkpoint,
    student_config,
)
from dtkd_mmaction.literals import parse_literals
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


@pytest.mark.parametrize(
    'student',
    [
        tiny_x3d(),
        tiny_tsn(),
        image_recognizer(dict(type='timm.resnet10t'), 512, NUM_CLASSES),
    ],
)
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


def test_the_config_travels_in_the_checkpoint(tmp_path, monkeypatch):
    """The file that the run named may be gone, edited or elsewhere."""
    monkeypatch.chdir(tmp_path)
    Config(dict(model=tiny_x3d())).dump('student.py')
    config = distiller_config(student=dict(cfg='student.py'))
    _, checkpoint = checkpoint_of(config)
    checkpoint['meta']['exported_configs'] = exported_configs(config)
    (tmp_path / 'student.py').write_text('raise SystemExit')
    meta = student_checkpoint(checkpoint)['meta']
    assert Config.fromstring(meta['cfg'], '.py').model.type == 'Recognizer3D'
    assert 'exported_configs' not in meta


def test_a_checkpoint_does_not_choose_the_file_that_is_executed(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    evil = "open('ran', 'w')\nmodel = dict(type='Recognizer3D')\n"
    for name in ('evil.py', '../evil.py', 'mmaction::../../../evil.py'):
        _, checkpoint = checkpoint_of(distiller_config())
        text = checkpoint['meta']['cfg']
        config = Config(parse_literals(text, 'cfg'))
        config.model.student.cfg = name
        checkpoint['meta']['cfg'] = config.pretty_text
        (tmp_path / 'evil.py').write_text(evil)
        with pytest.raises(ValueError, match='Name that file with --config'):
            student_checkpoint(checkpoint)
    assert not osp.exists('ran')
    torch.save(checkpoint, 'run.pth')
    Config(dict(model=tiny_x3d())).dump('mine.py')
    monkeypatch.setattr('sys.argv', ['export_student.py', 'run.pth'])
    with pytest.raises(SystemExit, match='run.pth: This checkpoint does not'):
        export_student.main()
    sys.argv += ['--config', 'mine.py']
    export_student.main()
    config = Config.fromfile('student_run_config.py')
    assert config.model.cls_head.num_classes == NUM_CLASSES


@pytest.mark.parametrize('where', ['cfg', 'exported_configs'])
def test_the_config_in_a_checkpoint_is_not_executed(
    tmp_path, monkeypatch, where
):
    monkeypatch.chdir(tmp_path)
    _, checkpoint = checkpoint_of(distiller_config())
    attack = "model = dict(type=open('ran', 'w'))"
    checkpoint['meta'][where] = (
        attack if where == 'cfg' else dict(student=attack)
    )
    with pytest.raises(ValueError, match='code is never executed'):
        student_checkpoint(checkpoint)
    torch.save(checkpoint, 'run.pth')
    monkeypatch.setattr('sys.argv', ['export_student.py', 'run.pth'])
    with contextlib.suppress(SystemExit):  # exported without a config
        export_student.main()
    assert not osp.exists('ran')


class TestPlainConfig:
    """The exported config needs nothing that MMAction2 does not have."""

    def pipeline(self):
        return [
            dict(type='DecordInit'),
            dict(type='FrameExactDecode'),
            dict(type='PackActionInputs'),
        ]

    def test_wrappers_and_lists_of_data_sets(self):
        dataset = dict(
            type='CheckedVideoDataset',
            ann_file='a.txt',
            max_unreadable=1,
            max_unreadable_share=0.5,
            pipeline=self.pipeline(),
        )
        config = distiller_config()
        config.test_pipeline = self.pipeline()
        config.test_dataloader.dataset = dict(
            type='ConcatDataset',
            datasets=[
                dataset,
                dict(type='RepeatDataset', dataset=dataset, times=2),
                dict(type='KeyedViewDataset', dataset=dataset, views=2),
            ],
        )
        config.test_dataloader.sampler = dict(type='KeyedViewSampler')
        config.default_hooks = dict(
            checkpoint=dict(
                type='AtomicCheckpointHook',
                interval=2,
                backend_args=dict(backend='atomic_local'),
            )
        )
        exported = student_config(config)
        plain = dict(
            type='VideoDataset',
            ann_file='a.txt',
            pipeline=[
                dict(type='DecordInit'),
                dict(type='DecordDecode'),
                dict(type='PackActionInputs'),
            ],
        )
        assert exported.test_dataloader.dataset.datasets == [
            plain,
            dict(type='RepeatDataset', dataset=plain, times=2),
            plain,
        ]
        assert exported.test_pipeline == plain['pipeline']
        assert exported.test_dataloader.sampler.type == 'DefaultSampler'
        assert exported.default_hooks.checkpoint == dict(
            type='CheckpointHook', interval=2
        )
        assert 'custom_imports' not in exported
        assert 'dtkd' not in exported.pretty_text

    @pytest.mark.parametrize('used', [True, False])
    def test_modules_of_the_user_are_kept_where_they_are_needed(
        self, used, monkeypatch, tmp_path
    ):
        (tmp_path / 'my_transforms.py').write_text(
            'from mmaction.registry import TRANSFORMS\n'
            '@TRANSFORMS.register_module(force=True)\n'
            'class MyTransform:\n'
            '    pass\n'
        )
        monkeypatch.syspath_prepend(tmp_path)
        import my_transforms  # noqa: F401

        config = distiller_config()
        config.custom_imports.imports = ['dtkd_mmaction', 'my_transforms']
        if used:
            config.test_pipeline = [dict(type='MyTransform')]
        exported = student_config(config)
        assert exported.get('custom_imports') == (
            dict(imports=['my_transforms'], allow_failed_imports=False)
            if used
            else None
        )

    def test_what_only_this_package_has_is_imported(self):
        config = distiller_config()
        config.test_evaluator = [dict(type='VerbNounMetric')]
        imports = student_config(config).custom_imports.imports
        assert imports == ['dtkd_mmaction']

    def test_a_config_with_lazy_imports(self, tmp_path):
        (tmp_path / 'lazy.py').write_text(textwrap.dedent(LAZY))
        config = Config.fromfile(tmp_path / 'lazy.py')
        (text,) = exported_configs(config).values()
        values = parse_literals(text, 'exported')
        assert values['model'] == tiny_x3d()
        assert values['test_pipeline'] == [dict(type='DecordDecode')]
        assert values['test_dataloader'] == dict(
            dataset=dict(type='VideoDataset', ann_file='a.txt'),
            collate_fn=dict(type='pseudo_collate'),
        )
        assert values['test_cfg'] == dict(type='TestLoop')
        assert 'custom_imports' not in values

    def test_what_cannot_be_written_is_named(self):
        config = distiller_config()
        config.test_cfg = dict(type='TestLoop', options=[object()])
        with pytest.raises(TypeError, match=r'^test_cfg\.options\.0: a obj'):
            student_config(config)

    def test_a_stock_training_has_no_export(self):
        assert exported_configs(Config(dict(model=tiny_x3d()))) == {}
        assert exported_configs(Config(dict(train_cfg=None))) == {}
        with pytest.raises(ValueError, match="'Recognizer3D' is no dist"):
            student_config(Config(dict(model=tiny_x3d())))


LAZY = """
    from mmaction.models import (
        ActionDataPreprocessor, Recognizer3D, X3D, X3DHead)
    from mmengine.dataset import pseudo_collate
    from mmengine.runner import TestLoop

    from dtkd_mmaction.datasets import CheckedVideoDataset, FrameExactDecode
    from dtkd_mmaction.distillers import DualTeacherDistiller

    student = dict(
        type=Recognizer3D,
        backbone=dict(type=X3D, gamma_w=1 / 3, gamma_b=2.25, gamma_d=0.2),
        cls_head=dict(
            type=X3DHead, in_channels=144, num_classes=4, dropout_ratio=0.0,
            average_clips='prob'),
        data_preprocessor=dict(
            type=ActionDataPreprocessor, mean=[114.75] * 3, std=[57.38] * 3,
            format_shape='NCTHW'),
    )
    model = dict(
        type=DualTeacherDistiller,
        student=dict(cfg=student),
        vit_teacher=dict(cfg=student, checkpoint=None),
        cnn_teacher=dict(cfg=student, checkpoint=None),
    )
    test_pipeline = [dict(type=FrameExactDecode)]
    test_dataloader = dict(
        dataset=dict(type=CheckedVideoDataset, ann_file='a.txt'),
        collate_fn=dict(type=pseudo_collate),
    )
    test_cfg = dict(type=TestLoop)
"""
