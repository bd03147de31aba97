"""A cache replaces the teachers, or an error says why it does not."""

import json
import os
import os.path as osp
import resource
import runpy
import shutil
import subprocess
import sys
from contextlib import contextmanager
from glob import glob

import numpy as np
import pytest
import torch
from decord import __version__ as decord_version
from mmaction.datasets import VideoDataset
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner
from noise_clips import noise_pipeline, write_clips
from old_cache import make_old
from tiny_models import FRAMES, NUM_CLASSES, SIZE, tiny_mvit, tiny_x3d

from dtkd_mmaction.datasets.clips_digest import clips_digest_v1
from dtkd_mmaction.recognizers.model_spec import build_recognizer
from dtkd_mmaction.teachers.teacher_cache import TeacherCache

ROOT = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
PIPELINE = 'train_dataloader.dataset.dataset.pipeline'
TOOL = osp.join(ROOT, 'tools', 'cache_teachers.py')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Seven clips, one of them unreadable, and two random teachers."""
    root = tmp_path_factory.mktemp('cache')
    write_clips(root, dict(train=7))
    (root / 'train_3.mp4').write_bytes(b'no video')
    torch.manual_seed(0)
    for name, cfg in (('vit', tiny_mvit()), ('cnn', tiny_x3d())):
        model = build_recognizer(Config(dict(model=cfg)), name)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        torch.save(dict(state_dict=model.state_dict()), root / f'{name}.pth')
    return root


def make_config(root, work_dir, **options):
    view = dict(frames=FRAMES, size=SIZE)
    config = Config(
        dict(
            default_scope='mmaction',
            custom_imports=dict(
                imports=['dtkd_mmaction'], allow_failed_imports=False
            ),
            model=dict(
                type='DualTeacherDistiller',
                student=dict(cfg=tiny_x3d(), view=view),
                vit_teacher=dict(
                    cfg=tiny_mvit(),
                    checkpoint=str(root / 'vit.pth'),
                    view=view,
                ),
                cnn_teacher=dict(
                    cfg=tiny_x3d(),
                    checkpoint=str(root / 'cnn.pth'),
                    view=view,
                ),
            ),
            train_dataloader=dict(
                batch_size=3,
                num_workers=0,
                sampler=dict(type='KeyedViewSampler', shuffle=True),
                dataset=dict(
                    type='KeyedViewDataset',
                    dataset=dict(
                        type='CheckedVideoDataset',
                        ann_file=str(root / 'train.txt'),
                        data_prefix=dict(video=str(root)),
                        pipeline=noise_pipeline(FRAMES, SIZE),
                    ),
                ),
            ),
            train_cfg=dict(type='ResumableTrainLoop', max_epochs=2),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            custom_hooks=[dict(type='TeacherCacheHook')],
            randomness=dict(seed=0),
            work_dir=str(work_dir),
        )
    )
    config.merge_from_dict(options)
    return config


def make_cache(root, out, *arguments, config=None, monkeypatch=None):
    config = config or make_config(root, root)
    path = str(root / f'{osp.basename(str(out))}_config.py')
    config.dump(path)
    argv = [TOOL, path, '--out', str(out), '--views', '2', '--shard', '4']
    argv += ['--batch-size', '3', '--workers', '0', *arguments]
    before = sys.argv
    sys.argv = argv
    try:
        runpy.run_path(TOOL, run_name='__main__')
    finally:
        sys.argv = before


@pytest.fixture(scope='module')
def cache(folder):
    """The default: maps on the student's grid."""
    make_cache(folder, folder / 'cache')
    return folder / 'cache'


@pytest.fixture(scope='module')
def native(folder):
    make_cache(folder, folder / 'native', '--maps', 'native')
    return folder / 'native'


def cached(root, work_dir, cache, **options):
    options = {'train_dataloader.dataset.views': 2, **options}
    return make_config(
        root, work_dir, **{'model.teacher_cache': str(cache)}, **options
    )


def train(config):
    runner = Runner.from_cfg(config)
    runner.train()
    return runner


def refused(config, error=ValueError):
    """The message with which a run is refused before its first step."""
    with pytest.raises(error) as caught:
        runner = Runner.from_cfg(config)
        runner.model.loss = None  # a step would fail otherwise
        runner.train()
    return str(caught.value)


def losses_of(config, live):
    """All losses of one batch: both views, in eval-free training mode."""
    runner = Runner.from_cfg(config)
    model, dataset = runner.model, runner.train_dataloader.dataset
    if live:
        model.init_weights()
    else:
        runner.call_hook('before_train')
    state = torch.load(osp.join(runner.work_dir, '..', 'student.pth'))
    model.student.load_state_dict(state)
    model.train()
    torch.manual_seed(0)
    data = pseudo_collate([dataset[i, v] for i in (0, 3, 6) for v in (0, 1)])
    batch = model.data_preprocessor(data, training=True)
    return model(**batch, mode='loss')


@pytest.fixture(scope='module')
def student(folder):
    torch.manual_seed(1)
    model = build_recognizer(Config(dict(model=tiny_x3d())), 'student')
    torch.save(model.state_dict(), folder / 'student.pth')


@pytest.mark.parametrize('maps', ['native', 'student_grid', 'masked'])
def test_losses_are_those_of_live_teachers(folder, student, maps):
    """To the rounding of fp16, the unreadable clip's replacement too."""
    out = folder / f'equal_{maps}'
    # Two frames of the student to four of the teachers: another grid. Random
    # teachers would have no trust.
    options = {'model.student.view.frames': 2, 'model.teacher_trust': False}
    make_cache(
        folder,
        out,
        '--maps',
        maps,
        config=make_config(folder, folder, **options),
    )
    live = losses_of(
        make_config(folder, folder / 'live', **options), live=True
    )
    kept = losses_of(
        cached(folder, folder / 'kept', out, **options), live=False
    )
    if maps == 'masked':  # nothing of the residual outside the masks
        live.pop('residual_var')
    assert kept.keys() == live.keys()
    assert {'loss_sr', 'loss_sd', 'loss_rkd', 'datw/vit'} < live.keys()
    for name, value in live.items():
        assert torch.allclose(kept[name], value, rtol=3e-3, atol=1e-4), name
        if name.startswith('loss'):
            assert value != 0


def test_a_cached_run_builds_no_teacher(folder, cache, tmp_path, monkeypatch):
    def build(*_, **__):
        raise AssertionError('a teacher was built')

    monkeypatch.setattr('dtkd_mmaction.distillers.base.FrozenTeacher', build)
    build.check_spec = lambda *_: None
    runner = train(cached(folder, tmp_path, cache))
    assert runner.iter == 6  # two epochs of three batches


def test_one_cache_serves_other_students_and_ablations(
    folder, native, cache, tmp_path
):
    other = {'model.student.cfg': tiny_x3d(base_channels=16)}
    train(cached(folder, tmp_path / 'a', native, **other))
    # the same grid, so the default's maps serve it too
    train(cached(folder, tmp_path / 'b', cache, **other))
    for i, options in enumerate(
        (
            {'model.loss_sd': None},
            {'model.loss_sd.zeta': 0.8, 'model.loss_sr.score': 'confidence'},
            {'model.loss_sd.phi': 'learnable'},
            {'model.preset': 'paper_literal'},
        )
    ):
        train(cached(folder, tmp_path / str(i), cache, **options))


def test_methods_of_one_teacher_find_it_under_another_name(
    folder, native, cache, tmp_path
):
    config = cached(folder, tmp_path / 'kd', cache)
    model = config.model
    model.pop('cnn_teacher')
    model.teacher = model.pop('vit_teacher')
    model.type = 'SingleTeacherDistiller'
    model.losses = dict(kd=dict(type='KDLoss'))
    train(config)
    config.model.losses = dict(mgd=dict(type='MGDLoss'))
    message = refused(config)
    assert "read the teacher teacher's ['map']" in message
    assert '--maps native' in message
    config.model.teacher_cache = str(native)
    train(config)


def test_stages_are_kept_where_a_loss_reads_them(folder, tmp_path):
    losses = {'model.losses': dict(at=dict(type='ATLoss', teacher='cnn'))}
    config = make_config(folder, folder, **losses)
    with pytest.raises(SystemExit, match='use maps=native'):
        make_cache(folder, folder / 'stages', config=config)
    make_cache(folder, folder / 'stages', '--maps', 'native', config=config)
    train(cached(folder, tmp_path / 'a', folder / 'stages', **losses))
    # From a config that does not read them itself.
    make_cache(
        folder, folder / 'also', *('--maps', 'native', '--also', 'maps')
    )
    train(cached(folder, tmp_path / 'b', folder / 'also', **losses))


@pytest.mark.parametrize(
    'options, named',
    [
        ({'train_dataloader.dataset.views': 3}, 'views=3: the cache holds 2'),
        (
            {'train_dataloader.dataset.views': None},
            'views=None: the cache holds 2',
        ),
        ({'train_dataloader.dataset.seed': 1}, 'data.seed: the cache has 0'),
        (
            {
                f'{PIPELINE}.3.type': 'RandomCrop',
                f'{PIPELINE}.3.size': 40,
            },
            "data.pipeline.3.type: the cache has 'RandomResizedCrop'",
        ),
        ({'model.vit_teacher.view.frames': 2}, 'vit.view.frames: the cache'),
        ({'model.vit_teacher.checkpoint': None}, 'vit.checkpoint: the cache'),
        ({'model.student.view.frames': 1}, 'model.loss_sd.grid.0: the cache'),
    ],
)
def test_refused_with_what_differs(folder, cache, tmp_path, options, named):
    assert named in refused(cached(folder, tmp_path, cache, **options))


def test_models_without_a_view(folder, tmp_path):
    """The grid is that of the clips, not of the clips of a stock config."""
    options = {
        'model.student.view': None,
        'model.cnn_teacher.view': None,
    }
    out = tmp_path / 'cache'
    make_cache(folder, out, config=make_config(folder, folder, **options))
    manifest = json.loads((out / 'manifest.json').read_text())
    assert manifest['compared_on']['grid'] == [2, 1, 1]
    assert manifest['shapes']['cnn']['tap']['clip'] == [3, FRAMES, SIZE, SIZE]
    runner = train(cached(folder, tmp_path / 'run', out, **options))
    assert runner.model.student_tap.shapes['map'][1:] == (FRAMES, 1, 1)


def test_another_checkpoint_is_refused(folder, cache, tmp_path):
    state = torch.load(folder / 'cnn.pth')
    state['state_dict']['cls_head.fc2.bias'] += 1
    torch.save(state, tmp_path / 'cnn.pth')
    config = cached(folder, tmp_path / 'run', cache)
    config.model.cnn_teacher.checkpoint = str(tmp_path / 'cnn.pth')
    assert 'cnn.checkpoint: the cache has' in refused(config)
    # One that is not here is taken on trust.
    config.model.cnn_teacher.checkpoint = str(tmp_path / 'gone.pth')
    train(config)


def test_another_list_is_refused_and_a_copy_is_not(folder, cache, tmp_path):
    lines = (folder / 'train.txt').read_text().splitlines()
    copy = tmp_path / 'copy'
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns('cache*'))
    config = cached(copy, tmp_path / 'run', cache)
    train(config)  # data elsewhere, checkpoints elsewhere
    lines[0] = lines[0].replace(' 0', ' 1')
    (copy / 'train.txt').write_text('\n'.join(lines))
    assert 'data.clips: the cache has' in refused(config)


def test_a_masked_cache_is_for_one_loss(folder, tmp_path):
    make_cache(folder, folder / 'masked', '--maps', 'masked')
    train(cached(folder, tmp_path / 'a', folder / 'masked'))
    message = refused(
        cached(
            folder,
            tmp_path / 'b',
            folder / 'masked',
            **{'model.loss_sd.zeta': 0.7},
        )
    )
    assert 'model.loss_sd.zeta: the cache has 0.5, the run has 0.7' in message
    message = refused(
        cached(
            folder,
            tmp_path / 'c',
            folder / 'masked',
            **{'model.loss_sd.phi': 'predictive'},
        )
    )
    assert 'cannot be stored alone' in message


def three_teachers(root, work_dir, **options):
    """The pair of this module and a random third, for one fused loss."""
    config = make_config(root, work_dir)
    vit, cnn = (config.model.pop(f'{n}_teacher') for n in ('vit', 'cnn'))
    third = dict(cnn, checkpoint=str(root / 'third.pth'))
    config.model.update(
        type='MultiTeacherDistiller',
        teachers=dict(vit=vit, cnn=cnn, third=third),
        fusion_loss=dict(type='AEKDLoss'),
    )
    config.merge_from_dict(options)
    return config


@pytest.fixture(scope='module')
def three(folder):
    """A cache of three teachers."""
    state = torch.load(folder / 'cnn.pth')['state_dict']
    state = {k: v.flip(0) for k, v in state.items()}
    torch.save(dict(state_dict=state), folder / 'third.pth')
    make_cache(
        folder,
        folder / 'three',
        *('--maps', 'native', '--also', 'map'),
        config=three_teachers(folder, folder),
    )
    return folder / 'three'


def assert_served(live, kept):
    assert kept.keys() == live.keys()
    for name, value in live.items():
        assert torch.allclose(kept[name], value, rtol=3e-3, atol=1e-4), name


def test_a_cache_of_three_serves_three(folder, student, three, tmp_path):
    live = losses_of(three_teachers(folder, folder / '3_live'), live=True)
    options = {
        'model.teacher_cache': str(three),
        'train_dataloader.dataset.views': 2,
    }
    config = three_teachers(folder, folder / '3_kept', **options)
    assert_served(live, losses_of(config, live=False))
    assert {'loss_fusion', 'aekd/third'} <= live.keys()
    runner = train(three_teachers(folder, tmp_path, **options))
    assert not runner.model._teachers  # none was built


def test_two_teachers_of_a_cache_of_three(folder, student, three, tmp_path):
    """Of both distillers, whatever they call them."""
    live = losses_of(make_config(folder, folder / 'two_live'), live=True)
    kept = losses_of(cached(folder, folder / 'two', three), live=False)
    assert_served(live, kept)
    train(cached(folder, tmp_path / 'run', three))
    pair = three_teachers(folder, folder / 'pair_live')
    third = pair.model.teachers.pop('third')
    pair.model.teachers.pop('cnn')
    pair.model.teachers.another = third
    live = losses_of(pair, live=True)
    pair.work_dir = str(folder / 'pair')
    pair.model.teacher_cache = str(three)
    pair.train_dataloader.dataset.views = 2
    assert_served(live, losses_of(pair, live=False))
    assert {'aekd/vit', 'aekd/another'} <= live.keys()


def test_a_cache_that_lacks_a_teacher(folder, cache, three, tmp_path):
    config = three_teachers(
        folder,
        tmp_path,
        **{
            'model.teacher_cache': str(cache),
            'train_dataloader.dataset.views': 2,
        },
    )
    assert 'the third teacher of this config' in refused(config, ValueError)


def test_blending_is_refused(folder, cache, tmp_path):
    config = cached(folder, tmp_path, cache)
    config.model.student.cfg.data_preprocessor.blending = dict(
        type='MixupBlending', num_classes=NUM_CLASSES, alpha=0.5
    )
    with pytest.raises(ValueError, match=r'MixupBlending\) mixes clips'):
        MODELS.build(config.model)
    config.model.teacher_cache = None
    with pytest.raises(SystemExit, match='mixes clips'):
        make_cache(folder, folder / 'blended', config=config)


def test_without_the_hook_it_is_not_used(folder, cache, tmp_path):
    config = cached(folder, tmp_path, cache, custom_hooks=[])
    with pytest.raises(RuntimeError, match='TeacherCacheHook'):
        train(config)


class TestDamage:
    @pytest.fixture
    def copy(self, cache, tmp_path):
        return shutil.copytree(cache, tmp_path / 'copy')

    def test_a_flipped_bit(self, folder, copy, tmp_path):
        path = copy / 'view_001' / '000004.npy'
        data = bytearray(path.read_bytes())
        data[-1000] ^= 4
        path.write_bytes(data)
        with pytest.raises(ValueError, match='000004.npy is damaged'):
            train(cached(folder, tmp_path / 'run', copy))

    def test_a_shard_cut_short(self, folder, copy, tmp_path):
        path = copy / 'view_000' / '000000.npy'
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(ValueError, match='000000.npy is damaged'):
            train(cached(folder, tmp_path / 'run', copy))

    def test_a_missing_shard_and_the_tool_goes_on(
        self, folder, copy, tmp_path
    ):
        path = copy / 'view_000' / '000004.npy'
        before = path.read_bytes()
        kept = copy / 'view_000' / '000000.npy'
        written = osp.getmtime(kept)
        path.unlink()
        message = refused(
            cached(folder, tmp_path / 'run', copy), FileNotFoundError
        )
        assert '1 shards are missing or cut short' in message
        make_cache(folder, copy)
        assert path.read_bytes() == before
        assert osp.getmtime(kept) == written

    def test_no_cache_at_all(self, folder, tmp_path):
        message = refused(
            cached(folder, tmp_path / 'run', tmp_path / 'none'),
            ValueError,
        )
        assert 'tools/cache_teachers.py' in message


def test_wrapped_data_sets(folder, tmp_path):
    """Each repetition of a clip has its own records."""
    config = make_config(folder, folder)
    clips = config.train_dataloader.dataset.dataset
    joined = dict(type='ConcatDataset', datasets=[clips, dict(clips)])
    config.train_dataloader.dataset.dataset = joined
    out = folder / 'joined'
    make_cache(folder, out, config=config)
    manifest = json.loads((out / 'manifest.json').read_text())
    assert manifest['samples'] == 14
    run = cached(folder, tmp_path / 'run', out)
    run.train_dataloader.dataset.dataset = joined
    assert train(run).iter == 10  # two epochs of five batches
    run.train_dataloader.dataset.dataset = dict(
        type='RepeatDataset', times=2, dataset=clips
    )
    run.work_dir = str(tmp_path / 'other')
    assert 'data.pipeline: the cache has' in refused(run)
    config.train_dataloader.dataset.dataset = dict(
        type='RepeatAugDataset',
        **{k: v for k, v in clips.items() if k != 'type'},
    )
    with pytest.raises(SystemExit, match='several clips per view'):
        make_cache(folder, tmp_path / 'several', config=config)


class TestOldFormat:
    @pytest.fixture
    def old(self, folder, cache, tmp_path):
        copy = shutil.copytree(cache, tmp_path / 'old')
        clips = VideoDataset(
            str(folder / 'train.txt'), [], data_prefix=dict(video=str(folder))
        )
        make_old(copy, clips=clips_digest_v1(clips), decord=decord_version)
        return copy

    def test_trains(self, folder, old, tmp_path):
        train(cached(folder, tmp_path / 'run', old))

    def test_other_clips_are_refused(self, folder, old, tmp_path):
        copy = shutil.copytree(
            folder, tmp_path / 'clips', ignore=shutil.ignore_patterns('*e')
        )
        config = cached(copy, tmp_path / 'run', old)
        with open(copy / 'train_2.mp4', 'ab') as file:
            file.write(b'0')
        assert 'data.clips: the cache has' in refused(config)

    def test_is_continued_in_its_format(self, folder, old):
        path = old / 'view_000' / '000004.npy'
        before = path.read_bytes()
        path.unlink()
        make_cache(folder, old)
        assert path.read_bytes() == before
        manifest = json.loads((old / 'manifest.json').read_text())
        assert 'format' not in manifest and 'identity' not in manifest


class TestFullDisk:
    def test_nothing_half_written(self, folder, tmp_path, capsys):
        out = tmp_path / 'out'
        with no_file_above(7000):
            with pytest.raises(SystemExit) as caught:
                make_cache(folder, out, '--shard', '7')
        message = str(caught.value)
        assert 'out is not complete' in message
        assert '000000.npy' in message and 'bytes are needed' in message
        assert 'is complete' not in capsys.readouterr().out
        assert glob(f'{out}/**/*.*', recursive=True) == [
            str(out / 'manifest.json')
        ]
        make_cache(folder, out, '--shard', '7')
        assert 'is complete' in capsys.readouterr().out

    def test_finished_files_stay(self, folder, tmp_path):
        out = tmp_path / 'out'
        make_cache(folder, out, '--shard', '7')
        path = out / 'view_001/000000.npy'
        before = path.read_bytes()
        path.unlink()
        with no_file_above(7000), pytest.raises(SystemExit):
            make_cache(folder, out, '--shard', '7')
        assert sorted(glob(f'{out}/view_*/*')) == [
            str(out / 'view_000/000000.npy')
        ]
        make_cache(folder, out, '--shard', '7')
        assert path.read_bytes() == before

    def test_left_overs_of_a_killed_call_are_removed(self, folder, tmp_path):
        out = tmp_path / 'out'
        (out / 'view_000').mkdir(parents=True)
        for name in ('manifest.json', 'view_000/000000.npy'):
            (out / f'{name}.0123456789ab.writing').write_bytes(b'half')
        make_cache(folder, out)
        assert not glob(f'{out}/**/*.writing', recursive=True)

    def test_too_large_for_any_disk(self, folder, tmp_path):
        """Such a cache is refused before its files are listed."""
        with pytest.raises(SystemExit, match='does not fit .* bytes of space'):
            make_cache(folder, tmp_path / 'out', '--views', '1000000000')
        assert not (tmp_path / 'out').exists()


@contextmanager
def no_file_above(size):
    """Limits the size of files, as a full disk would."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_teachers_that_draw_random_numbers_are_refused(folder, tmp_path):
    config = make_config(folder, folder)
    config.model.teacher_mode = 'bn_eval_only'
    with pytest.raises(SystemExit, match="teacher_mode='bn_eval_only'"):
        make_cache(folder, tmp_path / 'out', config=config)


class TestTool:
    def test_the_folder_of_something_else(self, folder, cache):
        config = make_config(folder, folder)
        config.train_dataloader.dataset.seed = 5
        with pytest.raises(SystemExit, match='data.seed: the cache has 0'):
            make_cache(folder, cache, config=config)

    def test_estimate_comes_first_and_alone(
        self, folder, cache, tmp_path, capsys
    ):
        make_cache(folder, tmp_path / 'out', '--dry-run')
        printed = capsys.readouterr().out
        fields = json.loads((cache / 'manifest.json').read_text())['fields']
        size = 4 + sum(
            np.dtype(d).itemsize * int(np.prod(s)) for d, s in fields.values()
        )
        assert f'7 clips x 2 views x {size / 1e3:.1f} kB' in printed
        assert '14 clips to do here' in printed
        assert not (tmp_path / 'out').exists()

    def test_sizes_without_data(self, folder, cache, tmp_path, capsys):
        """Size for any number of clips: the bytes of the fields, by hand."""
        config = make_config(folder, folder)
        config.train_dataloader.dataset.dataset.ann_file = 'not/there.txt'
        make_cache(folder, tmp_path / 'out', '--clips', '1000', config=config)
        printed = capsys.readouterr().out
        manifest = json.loads((cache / 'manifest.json').read_text())
        taps = TeacherCache(str(cache), manifest['teachers'])
        size = 4 + 2 * sum(
            int(np.prod(taps.tap(name).shapes['map']))
            + taps.tap(name).embedding_width
            + NUM_CLASSES
            for name in ('vit', 'cnn')
        )
        assert (
            f'--maps native: {size / 1e3:.1f} kB per view, '
            f'{size * 2000 / 1e9:.2f} GB for 1000 clips x 2 views'
        ) in printed
        assert '--maps masked: ' in printed

    def test_verify(self, folder, cache, capsys):
        make_cache(folder, cache, '--verify', '3')
        lines = capsys.readouterr().out.splitlines()
        distances = {
            line.split(':')[0]: float(line.split()[3])
            for line in lines
            if 'at most' in line and 'largest' in line
        }
        assert set(distances) == {
            f'{t}.{q}'
            for t in ('vit', 'cnn')
            for q in ('logits', 'embedding', 'map')
        }
        assert max(distances.values()) < 2e-3

    def test_two_processes_write_the_same(self, folder, cache, tmp_path):
        config = str(tmp_path / 'config.py')
        make_config(folder, folder).dump(config)
        out = tmp_path / 'out'
        result = subprocess.run(
            [
                sys.executable,
                '-m',
                'torch.distributed.run',
                '--nproc_per_node=2',
                '--master_port=29731',
                TOOL,
                config,
                *('--out', str(out), '--views', '2', '--shard', '4'),
                *('--batch-size', '3', '--workers', '0'),
                *('--launcher', 'pytorch'),
            ],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, PYTHONPATH=ROOT),
        )
        assert result.returncode == 0, result.stdout[-3000:]
        assert 'is complete' in result.stdout
        names = sorted(
            osp.relpath(p, cache) for p in glob(f'{cache}/view_*/*.npy')
        )
        assert len(names) == 4
        for name in names:
            ours, theirs = np.load(cache / name), np.load(out / name)
            for field in ours.dtype.names[:-1]:
                # Threads and kernels differ, so the last bit may.
                assert np.allclose(ours[field], theirs[field], 2e-3, 1e-4)
        manifest = json.loads((out / 'manifest.json').read_text())
        reader = TeacherCache(str(out), manifest['teachers'])
        keys = [(i, v) for i in range(7) if i != 3 for v in (0, 1)]
        assert len(reader.records(keys)) == 12


def test_reads_by_key_alone(folder, cache):
    """Records do not depend on the other clips of the batch."""
    manifest = json.loads((cache / 'manifest.json').read_text())
    reader = TeacherCache(str(cache), manifest['teachers'])
    reader.data_is_checked = True
    device = torch.device('cpu')
    both = reader.read([(6, 1), (0, 0)], device)
    alone = reader.read([(0, 0)], device)
    for name in ('vit', 'cnn'):
        assert torch.equal(both[name].logits[1:], alone[name].logits)
        assert both[name].map.shape[2:] == alone[name].map.shape[2:]
    with pytest.raises(KeyError, match='holds 2 views of 7 samples'):
        reader.read([(0, 2)], device)
