"""Wrong configs: every message names the key and what to do.

The base config is right. Each row changes it as ``--cfg-options`` would, and
lists what the message must contain. No model is built.
"""

import copy

import pytest
from mmengine.config import Config
from noise_clips import noise_pipeline
from tiny_models import FRAMES, SIZE, tiny_distiller, tiny_x3d

from dtkd_mmaction.config_check import check_config

CLASSES = 4
TRAIN = 'train_dataloader'
DATA = f'{TRAIN}.dataset.dataset'


def dataset(folder, split, test_mode):
    return dict(
        type='CheckedVideoDataset',
        ann_file=str(folder / f'{split}.txt'),
        data_prefix=dict(video=str(folder)),
        pipeline=noise_pipeline(FRAMES, 48 if split == 'train' else SIZE),
        test_mode=test_mode,
    )


def right_config(folder):
    validation = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dataset(folder, 'val', True),
    )
    return dict(
        default_scope='mmaction',
        custom_imports=dict(imports=['dtkd_mmaction']),
        model=tiny_distiller(num_classes=CLASSES),
        train_dataloader=dict(
            batch_size=4,
            num_workers=0,
            sampler=dict(type='KeyedViewSampler', shuffle=True),
            dataset=dict(
                type='KeyedViewDataset',
                dataset=dataset(folder, 'train', False),
            ),
        ),
        val_dataloader=validation,
        test_dataloader=copy.deepcopy(validation),
        val_evaluator=dict(type='AccMetric'),
        test_evaluator=dict(type='AccMetric'),
        train_cfg=dict(
            type='ResumableTrainLoop', max_epochs=2, val_interval=1
        ),
        val_cfg=dict(type='ValLoop'),
        test_cfg=dict(type='TestLoop'),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        param_scheduler=[dict(type='MultiStepLR', milestones=[1], end=2)],
        default_hooks=dict(
            checkpoint=dict(type='AtomicCheckpointHook', interval=1)
        ),
        custom_hooks=[dict(type='FastStudentHook')],
        randomness=dict(seed=0),
    )


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Names of clips; nothing is decoded."""
    path = tmp_path_factory.mktemp('clips')
    for split, count in (('train', 8), ('val', 4)):
        names = [f'{split}_{i}.mp4' for i in range(count)]
        lines = [f'{n} {i % CLASSES}' for i, n in enumerate(names)]
        (path / f'{split}.txt').write_text('\n'.join(lines) + '\n')
        for name in names:
            (path / name).touch()
    return path


def problems(folder, options, base=None):
    config = Config(base or right_config(folder))
    config.merge_from_dict(options, allow_list_keys=True)
    return check_config(config, strict=True)


def test_the_base_is_right(folder):
    assert problems(folder, {}) == []


BEST = {'default_hooks.checkpoint.save_best': 'acc/top1'}
WRONG = [
    # Unknown keys
    ({'model.studnet': dict(cfg='x.py')}, ['model.studnet', 'model.student']),
    (
        {f'{TRAIN}.dataset.ann_file': 'my/train.txt'},
        [f'{TRAIN}.dataset.ann_file', f'Set {DATA}.ann_file'],
    ),
    (
        {f'{TRAIN}.ann_file': 'my/train.txt'},
        [f'{TRAIN}.ann_file', f'Set {DATA}.ann_file'],
    ),
    (
        {'default_hooks.checkpoint.intervall': 1},
        ['default_hooks.checkpoint.intervall', 'checkpoint.interval?'],
    ),
    (
        {'custom_hooks.0.layuot': 'stock'},
        ['custom_hooks.0.layuot', 'custom_hooks.0.layout?'],
    ),
    ({'modle.num_classes': 6}, ['modle', "'model'"]),
    ({'optim_wraper.optimizer.lr': 1}, ['optim_wraper', "'optim_wrapper'"]),
    (
        {'optim_wrapper.optimizer.learning_rate': 1},
        ['optim_wrapper.optimizer.learning_rate', 'SGD', 'lr'],
    ),
    ({'train_cfg.max_epoch': 3}, ['train_cfg.max_epoch', 'max_epochs?']),
    ({f'{TRAIN}.sampler.shufle': True}, ['sampler.shufle', 'shuffle?']),
    ({'param_scheduler.0.milestone': [1]}, ['milestone', 'milestones?']),
    ({'randomness.sed': 1}, ['randomness.sed', 'randomness.seed?']),
    (
        {f'{DATA}.pipeline.1.clip_length': 4},
        [f'{DATA}.pipeline.1.clip_length', 'clip_len?'],
    ),
    ({'model.student.size': 32}, ['model.student.size', 'view=dict(size=32)']),
    (
        {'model.cnn_teacher.view.frame': 4},
        ['model.cnn_teacher.view.frame', 'view.frames?'],
    ),
    (
        {'model.student.cls_head': dict(num_classes=4)},
        ['model.student.cls_head', 'cfg_options'],
    ),
    (
        {'model.student.cfg_options': {'cls_head.dropout': 0.5}},
        ['model.student.cfg_options: cls_head.dropout', 'dropout_ratio'],
    ),
    (
        {'model.student.num_classes': 4},
        ['student.num_classes', 'model.num'],
    ),
    ({'model.student.optimise': True}, ['student.optimise', 'only a frozen']),
    ({'model.loss_sr.temperature': 4}, ['loss_sr.temperature', 'tau']),
    ({'model.loss_sd.zetta': 0.5}, ['loss_sd.zetta', 'loss_sd.zeta?']),
    ({'model.branch.se_ration': 8}, ['branch.se_ration', 'se_ratio?']),
    ({'model.teachers': dict(vit={})}, ['model.teachers', 'vit_teacher']),
    (
        {'model.losses': dict(kd=dict(type='KDLoss', temp=4, teacher='vit'))},
        ['model.losses.kd.temp', 'tau'],
    ),
    # Types and ranges
    ({'model.num_classes': '4'}, ["model.num_classes='4'", 'an integer']),
    ({'model.loss_sr.loss_weight': '1'}, ["loss_weight='1'", 'a number']),
    (
        {'model.loss_rkd.loss_weight': -25},
        ['loss_weight=-25', '>= 0'],
    ),
    ({'model.loss_sr.tau': -4}, ['model.loss_sr.tau=-4', '> 0']),
    ({'model.loss_sd.rho': 1.5}, ['loss_sd.rho=1.5', 'between 0 and 1']),
    ({'model.label_weight': -1}, ['model.label_weight=-1', '>= 0']),
    ({f'{TRAIN}.dataset.views': 2.5}, ['dataset.views=2.5', 'integer >= 1']),
    ({f'{TRAIN}.dataset.seed': -1}, ['dataset.seed=-1', '>= 0']),
    ({'randomness.seed': -1}, ['randomness.seed=-1', 'between 0']),
    ({f'{TRAIN}.batch_size': 0}, ['batch_size=0', 'integer >= 1']),
    ({'train_cfg.max_epochs': '9'}, ["train_cfg.max_epochs='9'", 'integer']),
    ({'optim_wrapper.optimizer.lr': '0.1'}, ["lr='0.1'", 'a number']),
    ({'model.rkd_teacher': 'swin'}, ["rkd_teacher='swin'", "'vit'"]),
    ({'model.loss_sr.score': 'prod'}, ['model.loss_sr', "'product'"]),
    ({'model.vit_teacher.precision': 'f16'}, ['precision', "'fp16'"]),
    ({'model.student.view.size': 0}, ['student.view.size=0', 'integer >= 1']),
    ({f'{DATA}.delimiter': 0}, [f'{DATA}.delimiter=0', 'a string']),
    (
        {f'{TRAIN}.persistent_workers': True},
        [f'{TRAIN}.persistent_workers=True', 'num_workers is 0'],
    ),
    # Models
    ({'model.type': 'DualTeacherDistiler'}, ['model.type', 'DualTeacherD']),
    ({'model.student.cfg': 'no/such.py'}, ['model.student.cfg', 'no/such.py']),
    ({'model.student.cfg': None}, ['model.student.cfg=None', 'model dict']),
    ({'model.student': 'x3d.py'}, ['model.student', "dict with a 'cfg'"]),
    (
        {'model.vit_teacher': dict(_delete_=True, cfg=tiny_x3d())},
        ['model.vit_teacher.checkpoint', 'is missing', 'None'],
    ),
    (
        {'model.vit_teacher.checkpoint': 'work_dirs/vit/best_*.pth'},
        ['model.vit_teacher.checkpoint', 'no file', 'trained first'],
    ),
    (
        {'model.student.cfg.backbone.in_channels': 17},
        ['model.student.cfg', '17 input channels', 'skeleton'],
    ),
    (
        {
            'model.student.cfg': 'mmaction::skeleton/stgcn/stgcn_8xb16-joint-'
            'u100-80e_ntu60-xsub-keypoint-2d.py'
        },
        ['model.student.cfg', 'RecognizerGCN', 'Recognizer3D'],
    ),
    (
        {'model.student.cfg.backbone.gamma_w': 0.5},
        ['cls_head.in_channels=144', 'Set cls_head.in_channels=288'],
    ),
    (
        {
            'model.num_classes': None,
            'model.cnn_teacher.cfg.cls_head.num_classes': 9,
        },
        ['model.cnn_teacher.cfg', '9 classes', 'model.num_classes'],
    ),
    (
        {
            'model.cnn_teacher': dict(
                cfg='mmaction::recognition/x3d/'
                'x3d_m_16x5x1_facebook-kinetics400-rgb.py',
                checkpoint='https://download.openmmlab.com/x3d_m.pth',
            )
        },
        ['model.cnn_teacher.checkpoint', '400 classes', 'stage one'],
    ),
    ({'load_from': 'no/such.pth'}, ["load_from='no/such.pth'", 'no such']),
    ({'model.teacher_cache': 'no'}, ['model.teacher_cache', 'cache_teachers']),
    (
        {'model.losses': dict(my_loss=dict(type='KDLoss', teacher='vit'))},
        ['model.losses.my_loss', "Call it 'my'"],
    ),
    (
        {'model.losses': dict(kd=dict(type='KDLoss'))},
        ['model.losses.kd.teacher', "['vit', 'cnn']"],
    ),
    (
        {'model.losses': dict(kd=dict(type='KDLos', teacher='vit'))},
        ['model.losses.kd.type', "'KDLoss'"],
    ),
    # Views and clips
    (
        {'model.vit_teacher.view.frames': 16},
        ['vit_teacher.view.frames=16', 'have 4 frames', 'clip_len'],
    ),
    (
        {'model.cnn_teacher.view.size': 64},
        ['cnn_teacher.view.size=64', '48 px', 'enlarged'],
    ),
    (
        {'model.student.view.size': 16},
        ['val_pipeline', '32 px', '16 px', 'model.student.view'],
    ),
    # Data and training
    (
        {f'{TRAIN}.batch_size': 64, f'{TRAIN}.drop_last': True},
        ['batch_size=64', '0 steps', '8 clips'],
    ),
    (
        {
            f'{TRAIN}.sampler.type': 'DefaultSampler',
            'train_cfg.type': 'EpochBasedTrainLoop',
        },
        [f'{TRAIN}.sampler.type', 'KeyedViewSampler', 'ResumableTrainLoop'],
    ),
    (
        {
            f'{TRAIN}.dataset.type': 'RepeatDataset',
            f'{TRAIN}.dataset.times': 1,
        },
        [f'{TRAIN}.sampler.type', 'KeyedViewDataset', 'DefaultSampler'],
    ),
    (
        {f'{TRAIN}.dataset.kept_in': 'views'},
        ['dataset.kept_in', 'dataset.views'],
    ),
    (
        {'train_cfg.max_epochs': 9},
        ['train_cfg.max_epochs=9', '2 epochs', 'stretch_schedule'],
    ),
    ({f'{DATA}.ann_file': 'no/list.txt'}, ['no/list.txt', 'does not exist']),
    ({f'{DATA}.data_prefix.video': 'no'}, ['prefix.video', 'do not exist']),
    ({f'{DATA}.data_prefix': 'clips'}, ['data_prefix', "dict(video='"]),
    ({'model.num_classes': 9}, ['5 of 9 classes have no training', 'be 4?']),
    (
        {
            'model.losses': dict(
                crd=dict(type='CRDLoss', num_samples=3570, teacher='vit')
            )
        },
        ['crd.num_samples=3570', 'has 8 clips', 'Set it to 8'],
    ),
    # Sections as a whole
    (
        {'val_cfg': None},
        ['val_cfg', 'val_dataloader and val_evaluator are given'],
    ),
    ({'train_cfg': dict(_delete_=True)}, ['train_cfg.max_epochs', 'missing']),
    ({'default_hooks.checkpont': {}}, ['checkpont', 'hooks.checkpoint?']),
    ({'env_cfg': dict(cudnn_benchmrk=True)}, ['cudnn_benchmark?']),
    ({'auto_scale_lr': dict(enabled=True)}, ['auto_scale_lr.enable?']),
    ({'log_level': 'INF'}, ["log_level='INF'", "'INFO'"]),
    ({'launcher': 'torchrun'}, ["launcher='torchrun'", "'pytorch'"]),
    ({'resume': 'epoch_3.pth'}, ["resume='epoch_3.pth'", 'load_from']),
    ({'default_scope': 'mmdet'}, ["default_scope='mmdet'", "'mmaction'"]),
    ({'work_dir': 5}, ['work_dir=5', 'a string']),
    ({'custom_imports': ['my_losses']}, ['custom_imports', 'a dict']),
    ({'visualizer': dict(type='ActionVisualiser')}, ["'ActionVisualizer'"]),
    ({f'{TRAIN}.sampler': 'KeyedViewSampler'}, ["Sampler'", "a 'type'"]),
    ({DATA: 'train.txt'}, [f"{DATA}='train.txt'", "a 'type'"]),
    (
        {f'{DATA}.pipeline': [dict(type='DecordInit')]},
        [f"{DATA}.pipeline=['DecordInit']", 'PackActionInputs'],
    ),
    # What only constructors know
    (
        {'custom_hooks.0.layout': 'channel_last'},
        ['custom_hooks.0', "layout='channel_last'", "'channels_last'"],
    ),
    (
        {'default_hooks.checkpoint.rule': 'most', **BEST},
        ['default_hooks.checkpoint', "'rule': 'most'", 'greater, less'],
    ),
    (
        {'custom_hooks': [dict(type='EMAHook', momentm=0.1)]},
        ["custom_hooks.0={'momentm': 0.1}", 'unexpected'],
    ),
    (
        {'custom_hooks': [dict(type='EMAHook', momentum=5)]},
        ["custom_hooks.0={'momentum': 5}", 'in range'],
    ),
    ({f'{DATA}.pipeline.1.clip_len': 0}, ['1.clip_len=0', 'integer >= 1']),
    (
        {f'{DATA}.pipeline.2': dict(type='Flip', direction='up')},
        [f'{DATA}.pipeline.2', "'direction': 'up'"],
    ),
    (
        {'val_evaluator.metric_list': ('top1',)},
        ["val_evaluator={'metric_list': ('top1',)}", 'acc_metric'],
    ),
    (
        {'optim_wrapper.optimizer.nesterov': True},
        ['optim_wrapper.optimizer', "'nesterov': True", 'momentum'],
    ),
    ({'optim_wrapper.optimizer.type': 'Sgd'}, ["mean 'SGD'"]),
    (
        {'optim_wrapper.constructor': 'TSMOptimWrapper'},
        ['constructor', "'TSMOptimWrapperConstructor'"],
    ),
    (
        {
            'optim_wrapper.paramwise_cfg': dict(
                custom_keys=dict(backbone=dict(lr_mul=0.1))
            )
        },
        ["custom_keys['backbone'].lr_mul", "'lr_mult'"],
    ),
    ({'optim_wrapper.clip_grad': 40}, ['clip_grad=40', 'max_norm=40']),
    (
        {'optim_wrapper.clip_grad': dict(max_nrom=40)},
        ['clip_grad.max_nrom', 'clip_grad.max_norm?'],
    ),
    (
        {'param_scheduler.0.gamma': '0.1'},
        ["param_scheduler.0.gamma='0.1'", 'a number'],
    ),
    (
        {'param_scheduler.0.milestones': [5]},
        ['0.milestones=[5]', '2 epochs', 'not change at [5]'],
    ),
    # Monitored metrics
    (
        {'default_hooks.checkpoint.save_best': 'acc/top_1'},
        ["save_best='acc/top_1'", "mean 'acc/top1'", 'acc/mean1, acc/top1'],
    ),
    (
        {'custom_hooks': [dict(type='EarlyStoppingHook', monitor='top1')]},
        ["custom_hooks.0.monitor='top1'", 'acc/top1'],
    ),
    ({'train_cfg.val_begin': 9}, ['val_begin=9', 'never validates']),
    # Losses in the wrong place
    (
        {'model.losses': dict(kd=dict(type='KDLoss', teacher='vit_teacher'))},
        ["teacher='vit_teacher'", "Did you mean 'vit'?"],
    ),
    (
        {
            'model.losses': dict(
                ce=dict(type='CrossEntropyLoss', teacher='vit')
            )
        },
        ["losses.ce.type='CrossEntropyLoss'", 'student_logits'],
    ),
    (
        {'model.loss_rkd': dict(type='KDLoss')},
        ["loss_rkd.type='KDLoss'", 'teacher_logits', "'RKDLoss'"],
    ),
    (
        {'model.loss_sd': dict(type='DATWLoss', tau=4.0)},
        ["loss_sd.type='DATWLoss'", "'StructureDiscrepancyLoss'"],
    ),
    (
        {'model.data_preprocessor': dict(type='ActionDataPreprocessor')},
        ['model.data_preprocessor', 'data_preprocessor.blending'],
    ),
    ({'model.student.tap': 5}, ['student.tap=5', 'name of a module']),
    ({'model.student.stages': 'a'}, ["stages='a'", 'a list']),
]


@pytest.mark.parametrize(
    'options, words', WRONG, ids=['-'.join(row[0])[-60:] for row in WRONG]
)
def test_wrong_configs(folder, options, words):
    found = problems(folder, options)
    assert any(all(word in str(p) for word in words) for p in found), (
        '\n'.join(map(str, found))
    )
    assert len(found) <= 2, '\n'.join(map(str, found))


def test_one_mistake_is_one_problem(folder):
    """A value of a wrong type is out of range, too."""
    losses = dict(kd=dict(type='KDLoss', teacher='vit', tau='4'))
    (found,) = problems(folder, {'model.losses': losses})
    assert str(found) == ("model.losses.kd.tau='4': it must be a number > 0.")


def test_built_models_show_wrong_taps(folder):
    """Both at once, before a distiller is built."""
    config = Config(right_config(folder))
    config.model.student.tap = 'backbone.layer9'
    config.model.cnn_teacher.stages = ['backbone.layer1', 'layer4']
    assert check_config(config, strict=True) == []
    found = check_config(config, strict=True, models=True)
    assert [p.key for p in found] == [
        'model.student.tap',
        'model.cnn_teacher.stages',
    ]
    assert str(found[0]).startswith("model.student.tap='backbone.layer9': ")
    assert 'backbone.layer4: (C, T, H, W)' in str(found[0])


def test_all_problems_are_found_at_once(folder):
    options = {}
    for row in (WRONG[0], WRONG[1], WRONG[3], WRONG[5]):
        options.update(row[0])
    options['model.loss_sr.tau'] = -4
    options['val_dataloader.dataset.ann_file'] = 'no/list.txt'
    found = '\n'.join(map(str, problems(folder, options)))
    for word in (
        'model.studnet',
        f'{TRAIN}.dataset.ann_file',
        'checkpoint.intervall',
        'modle',
        'model.loss_sr.tau',
        'val_dataloader.dataset.ann_file',
    ):
        assert word in found


LISTS = [
    ('train', 'a.mp4 1\nb.mp4\n', ['line 2', 'no label']),
    ('train', 'a.mp4,1\nb.mp4,0\n', ['line 1', "delimiter=','"]),
    ('train', 'a.mp4 0\nb.mp4 9\n', ['line 2', 'label 9', '4 classes']),
    ('train', 'a.mp4 0\nb.mp4 -100\n', ['line 2', 'label -100']),
    ('train', 'a.mp4 -1\nb.mp4 -1\n', ['no clip has a label', 'label_weight']),
    (
        'train',
        'a.mp4 1\na.mp4 2\na.mp4 3\na.mp4 4\n',
        ['line 4', 'from 1 to 4', 'Subtract 1'],
    ),
    (
        'val',
        'a.mp4 1\na.mp4 2\na.mp4 3\na.mp4 4\n',
        ['val_dataloader', 'line 4', 'Subtract 1'],
    ),
    ('val', 'a.mp4 0\nb.mp4 -1\n', ['line 2', 'only a training list']),
    ('val', '', ['is empty']),
    ('test', 'a.mp4 0\nb.mp4 4\n', ['test_dataloader', 'line 2', 'label 4']),
]


@pytest.mark.parametrize('split, text, words', LISTS)
def test_wrong_lists(folder, tmp_path, split, text, words):
    path = tmp_path / 'list.txt'
    path.write_text(text)
    for name in ('a.mp4', 'b.mp4'):
        (tmp_path / name).touch()
    key = DATA if split == 'train' else f'{split}_dataloader.dataset'
    found = problems(
        folder,
        {
            f'{key}.ann_file': str(path),
            f'{key}.data_prefix.video': str(tmp_path),
            f'{TRAIN}.batch_size': 2,
        },
    )
    words = [f'{key}.ann_file', str(path), *words]
    assert any(all(word in str(p) for word in words) for p in found), (
        '\n'.join(map(str, found))
    )


def test_weights_that_only_the_named_config_names(folder, tmp_path):
    """A spec reads the model of a config, and not its ``load_from``."""
    path = tmp_path / 'student.py'
    Config(dict(model=tiny_x3d(), load_from='x3d.pth')).dump(path)
    (found,) = problems(folder, {'model.student.cfg': str(path)}, None)
    assert found.warning
    assert 'load_from (x3d.pth) is not used' in str(found)
    assert 'Write model.student.checkpoint' in str(found)


def test_a_folder_as_list(folder):
    found = problems(folder, {f'{DATA}.ann_file': str(folder)})
    assert 'is a folder' in str(found[0])
    assert len(found) == 1


def test_unlabelled_clips(folder, tmp_path):
    """A student may learn from some; a model that trains alone from none."""
    path = tmp_path / 'list.txt'
    names = [f'train_{i}.mp4' for i in range(8)]
    labels = [0, 1, 2, 3, -1, -1, -1, -1]
    path.write_text(
        '\n'.join(f'{n} {label}' for n, label in zip(names, labels))
    )
    options = {f'{DATA}.ann_file': str(path)}
    assert problems(folder, options) == []
    alone = dict(right_config(folder), model=tiny_x3d())
    found = problems(folder, options, alone)
    assert '4 of 8 clips are unlabelled' in str(found[0])


def test_labels_that_begin_with_one_and_a_class_too_many(folder, tmp_path):
    """`num_classes=5` for labels 1 to 4 gives a plausible accuracy."""
    path = tmp_path / 'list.txt'
    path.write_text('\n'.join(f'train_{i}.mp4 {i % 4 + 1}' for i in range(8)))
    found = problems(
        folder, {f'{DATA}.ann_file': str(path), 'model.num_classes': 5}
    )
    assert 'begin with 1? They must begin with 0' in str(found[0])


def test_wrappers_around_the_data(folder):
    config = right_config(folder)
    inner = config[TRAIN]['dataset']['dataset']
    config[TRAIN]['sampler'] = dict(type='DefaultSampler', shuffle=True)
    config[TRAIN]['dataset'] = dict(
        type='RepeatDataset',
        times=2,
        dataset=dict(type='ConcatDataset', datasets=[inner, dict(inner)]),
    )
    assert problems(folder, {}, copy.deepcopy(config)) == []
    found = problems(
        folder,
        {
            f'{TRAIN}.dataset.dataset.datasets.1.ann_fil': 'x',
            f'{TRAIN}.batch_size': 33,
            f'{TRAIN}.drop_last': True,
        },
        config,
    )
    text = '\n'.join(map(str, found))
    assert 'datasets.1.ann_fil' in text and 'ann_file?' in text
    assert 'there are 32 clips' in text


def test_a_fault_of_the_check_is_a_warning(folder, monkeypatch):
    from dtkd_mmaction.config_check import check

    def broken(config, findings):
        raise KeyError('x')

    monkeypatch.setattr(check, 'check_structure', broken)
    config = Config(right_config(folder))
    found = check_config(config)
    assert [p.key for p in found] == ['check_config']
    assert found[0].warning and 'fault of the check' in found[0].text
    with pytest.raises(KeyError):
        check_config(config, strict=True)


def test_random_generators_are_left_alone(folder):
    import torch

    before = torch.get_rng_state()
    problems(folder, {})
    assert torch.equal(before, torch.get_rng_state())


def several_teachers(folder, **options):
    """The base with its two teachers in a ``MultiTeacherDistiller``."""
    config = Config(right_config(folder))
    model = config.model
    config.model = dict(
        type='MultiTeacherDistiller',
        student=model.student,
        teachers=dict(vit=model.vit_teacher, cnn=model.cnn_teacher),
        losses=dict(kd=dict(type='KDLoss', teacher='vit')),
    )
    config.merge_from_dict(options)
    return check_config(config, strict=True)


def test_several_teachers_are_right(folder):
    for fusion in ('EBKDLoss', 'CAMKDLoss', 'AEKDLoss', 'UNICDropLoss'):
        options = {'model.fusion_loss': dict(type=fusion, tau=2.0)}
        assert several_teachers(folder, **options) == []
    options['model.fusion_loss'] = dict(type='CAMKDLoss', feature_weight=1.0)
    assert several_teachers(folder, **options) == []


@pytest.mark.parametrize(
    'options, words',
    [
        (
            {'model.losses.kd.teacher': 'vti'},
            ["model.losses.kd.teacher='vti'", "Did you mean 'vit'?"],
        ),
        ({'model.teachers': {}}, ['model.teachers', 'one or more']),
        (
            {'model.teachers.student': dict(cfg='x.py', checkpoint=None)},
            ['model.teachers.student', 'Choose another'],
        ),
        (
            {'model.fusion_loss': dict(type='KDLoss')},
            ['model.fusion_loss.type', 'one teacher'],
        ),
        (
            {'model.fusion_loss': dict(type='AEKDLoss', nu=2.0)},
            ['model.fusion_loss.nu=2.0', 'between 0 and 1'],
        ),
        (
            {'model.fusion_loss': dict(type='EBKDLos')},
            ['model.fusion_loss', 'EBKDLoss'],
        ),
        (
            {'model.teachers.vit.view.frame': 4},
            ['model.teachers.vit.view.frame', 'view.frames?'],
        ),
        ({'model.fusion_los': dict(tau=1.0)}, ['model.fusion_loss?']),
    ],
)
def test_what_is_wrong_with_several_teachers(folder, options, words):
    if options.get('model.teachers') == {}:
        options = {'model.teachers': dict(_delete_=True)}
    found = several_teachers(folder, **options)
    text = '\n'.join(map(str, found))
    assert found and all(word in text for word in words), text


def test_other_losses_with_a_preset(folder):
    """EBKD has no presets; that of the distiller is not passed on."""
    options = {'model.preset': 'paper_literal'}
    options['model.loss_sr'] = dict(type='EBKDLoss')
    assert problems(folder, options) == []
