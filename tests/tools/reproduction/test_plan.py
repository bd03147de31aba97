"""Which runs a table needs, where they go and what they are."""

import json
import os.path as osp

import pytest
from compose_config import FUSION_KEYS, FUSIONS, config_names
from reproduction import Planner, Row, read_tables, runs_in_order
from reproduction.needed_files import how_to_prepare
from reproduction.plan import teacher_specs
from tiny_tables import planner, tiny_table, write_tables

FUSION_METHODS = config_names(FUSIONS)
ROOT = osp.dirname(
    osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
)


@pytest.fixture
def folder(tmp_path):
    write_tables(tmp_path)
    return tmp_path


def rows(folder):
    return {row.name: row for row in tiny_table(folder).rows}


def planned(folder, seeds=(0, 1), **options):
    plan = planner(folder, **options)
    return runs_in_order(
        run for row in tiny_table(folder).rows for run in plan.runs(row, seeds)
    )


def test_teachers_come_first_and_once(folder):
    names = [run.name for run in planned(folder)]
    assert names == [
        'vit_teacher seed 0',
        'cnn_teacher seed 0',
        'alone seed 0',
        'alone seed 1',
        'pupil seed 0',
        'pupil seed 1',
        'pupil/pupil,_hot seed 0',
        'pupil/pupil,_hot seed 1',
    ]


def test_a_teacher_is_the_one_that_students_have(folder):
    """Seed 0, whatever the seeds: it is trained anyway."""
    names = [run.name for run in planned(folder, seeds=[4])]
    assert [n for n in names if 'vit' in n] == ['vit_teacher seed 0']


@pytest.mark.parametrize('key', ['work_dir', 'randomness.seed'])
def test_options_that_would_be_those_of_all_runs(folder, key):
    with pytest.raises(SystemExit, match=f'--cfg-options {key}.*Use --'):
        planner(folder, cfg_options={key: 1})


def test_command_that_makes_the_lists():
    """It writes where the runs look for them."""
    said = how_to_prepare('data/hmdb51/train.txt', '/big disk/clips')
    assert said.startswith(
        "python tools/data/hmdb51/prepare.py --out '/big disk/clips/hmdb51';"
    )


@pytest.mark.parametrize(
    'text, message',
    [
        ('tables: [', 'tables.yml'),
        ('', 'declares no table'),
        ('tables: {tiny: {title: T, rows: {a: b.py}}}', 'tiny has no metrics'),
        (
            'tables: {tiny: {title: T, metrics: {a: b}, rows: '
            '{x: {confg: b.py}}}}',
            r"tiny.rows.x: .*confg.*'once', 'cache', 'options', 'method'",
        ),
        (
            'tables: {tiny: {title: T, metrics: {a: b}, reference: y, rows: '
            '{x: b.py}}}',
            r"tiny.reference: 'y' is none of its rows \['x'\]",
        ),
    ],
)
def test_broken_declaration(folder, text, message):
    path = folder / 'tables.yml'
    path.write_text(text)
    with pytest.raises(SystemExit, match=message):
        read_tables(str(path))


def test_no_declaration(tmp_path):
    with pytest.raises(SystemExit, match='--tables .*nowhere.yml'):
        Planner(str(tmp_path / 'nowhere.yml'))


def test_folders(folder):
    """A teacher's is where the student's config looks for it."""
    runs = {run.name: run for run in planned(folder)}
    out = str(folder / 'out')
    teacher = runs['vit_teacher seed 0']
    assert teacher.work_dir == f'{out}/vit'
    pupil = runs['pupil seed 1']
    assert pupil.work_dir == f'{out}/reproduce/pupil/seed1'
    model = pupil.config.model
    assert model.vit_teacher.checkpoint == f'{out}/vit/epoch_*.pth'
    assert pupil.teachers['vit_teacher'] is teacher
    dataset = pupil.config.train_dataloader.dataset.dataset
    assert dataset.ann_file == str(folder / 'data/clips/train.txt')
    assert pupil.config.randomness.seed == 1
    assert pupil.clips == 2


def test_clips_of_a_part_of_the_list(folder):
    indices = {'train_dataloader.dataset.dataset.indices': [1]}
    runs = {run.name: run for run in planned(folder, cfg_options=indices)}
    assert runs['pupil seed 1'].clips == 1


def test_options_of_a_row(folder):
    runs = {run.name: run for run in planned(folder)}
    hot = runs['pupil/pupil,_hot seed 0']
    assert hot.config.model.tau == 9
    assert runs['pupil seed 0'].config.model.tau == 4
    assert hot.work_dir != runs['pupil seed 0'].work_dir


def test_model_options_of_the_user_are_for_distillers(folder):
    runs = planned(folder, cfg_options={'model.tau': 2, 'train_cfg.a': 1})
    taus = {run.source: run.config.model.get('tau') for run in runs}
    assert taus == {
        'vit_teacher.py': None,
        'cnn_teacher.py': None,
        'alone.py': None,
        'pupil.py': 2,
    }
    assert {run.config.train_cfg.a for run in runs} == {1}


def test_hash_is_that_of_the_content(folder, tmp_path_factory):
    """Not of the folders; of seed, options and the config's text."""

    def hashes(where, **options):
        return [run.config_sha256 for run in planned(where, **options)]

    first = hashes(folder)
    assert len(set(first)) == len(first)
    elsewhere = tmp_path_factory.mktemp('elsewhere')
    write_tables(elsewhere)
    assert hashes(elsewhere) == first
    changed = hashes(folder, cfg_options={'train_cfg.max_epochs': 3})
    assert not set(changed) & set(first)


def test_teacher_cache(folder):
    cache = folder / 'cache'
    cache.mkdir()
    (cache / 'manifest.json').write_text(json.dumps(dict(views=7)))
    runs = {r.name: r for r in planned(folder, teacher_cache=str(cache))}
    served = runs['pupil seed 0'].config
    assert served.model.teacher_cache == str(cache)
    assert served.train_dataloader.dataset.views == 7
    for name in ('pupil/pupil,_hot seed 0', 'alone seed 0'):
        assert 'teacher_cache' not in runs[name].config.model


def test_a_cache_serves_teachers_that_no_run_trains(folder, tmp_path):
    """Those of tools/probe_teacher.py."""
    cache = tmp_path / 'cache'
    cache.mkdir()
    (cache / 'manifest.json').write_text(json.dumps(dict(views=10)))
    path = osp.join(ROOT, 'configs', 'tables.yml')
    plan = Planner(path, teacher_cache=str(cache))
    tables = read_tables(path)
    for name in ('ucf6_fusion', 'ucf6_fusion_third', 'ucf6_fusion_wrong'):
        rows = {row.name: row for row in tables[name].rows}
        run = plan.run(rows['AEKD'], 1)
        assert run.config.model.teacher_cache == str(cache)
        assert not run.teachers
        alone = plan.run(rows['student alone'], 1)
        assert 'teacher_cache' not in alone.config.model


def test_no_cache_there(folder):
    with pytest.raises(SystemExit, match='nowhere is no cache'):
        planned(folder, teacher_cache=str(folder / 'nowhere'))
    (folder / 'damaged').mkdir()
    (folder / 'damaged' / 'manifest.json').write_text('{"version": 2}')
    with pytest.raises(SystemExit, match=r'manifest.json lacks .*views'):
        planned(folder, teacher_cache=str(folder / 'damaged'))


def test_teacher_that_nothing_trains(folder):
    (folder / 'cnn_teacher.py').unlink()
    with pytest.raises(SystemExit, match='work_dirs/cnn, but no config'):
        planned(folder)


def test_tables_of_the_repository():
    """Every row of every table has its teachers' configs, and figures."""
    path = osp.join(ROOT, 'configs', 'tables.yml')
    tables = read_tables(path)
    assert {f'table{i}' for i in range(1, 9)} < set(tables)
    plan = Planner(path)
    for name, table in tables.items():
        for row in table.rows:
            (run,) = plan.runs(row, [1 if not row.once else 0])
            waits_for = [
                argument
                for argument, spec in teacher_specs(run.config.model).items()
                if 'work_dirs/' in (spec.get('checkpoint') or '')
            ]
            assert list(run.teachers) == waits_for, (name, row.name)
            if name.startswith('table'):
                assert row.config in table.paper, (name, row.name)
            if row.method:
                stem = osp.splitext(row.config)[0]
                assert run.name.startswith(f'{stem}_{row.method}')
                assert (row.method in FUSION_METHODS) == (
                    run.config.model.type in FUSION_KEYS
                )


def test_a_method_of_a_row(folder):
    """A row names a pair and a method that the pair's config is not."""
    path = osp.join(ROOT, 'configs', 'tables.yml')
    rows = {row.name: row for row in read_tables(path)['hmdb51_methods'].rows}
    plan = Planner(path, work_root=str(folder))
    own, kd, dist = (plan.run(rows[n], 0) for n in ('DT-KD', 'KD', 'DIST'))
    assert kd.source == 'dtkd/x3d_s_hmdb51.py kd'
    stem = f'{folder}/reproduce/dtkd/x3d_s_hmdb51'
    assert [run.work_dir for run in (own, kd)] == [
        f'{stem}/seed0',
        f'{stem}_kd/seed0',
    ]
    assert kd.config.model.losses.kd.type == 'KDLoss'
    assert kd.config.model.teacher == own.config.model.vit_teacher
    assert len({run.config_sha256 for run in (own, kd, dist)}) == 3
    assistant = plan.run(rows['TAKD'], 0).teachers['teacher']
    assert assistant.source == 'baselines/takd_assistant_hmdb51.py'
    for config, method in (('dtkd/x3d_s_hmdb51.py', 'kkd'), (kd_file(), 'kd')):
        with pytest.raises(SystemExit, match='expected one of|Expected a con'):
            plan.run(Row('x', config, method=method), 0)


def kd_file():
    return 'baselines/x3d_s_hmdb51/x3d_s_hmdb51_at.py'
