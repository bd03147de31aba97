"""The benchmark measures what it says, and its tables are its numbers."""

import copy
import importlib
import json
import math
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from tiny_distillation import load_tool, run_tool
from tiny_models import FRAMES, SIZE, tiny_distiller, tiny_mvit, tiny_x3d
from torch.nn.modules.batchnorm import _BatchNorm

# As when the script is run: its folder is where it looks first.
tool = load_tool('benchmark')
losses, report, steps, timing, workbench = (
    importlib.import_module(f'benchmarking.{name}')
    for name in ('losses', 'report', 'steps', 'timing', 'workbench')
)
known_methods = importlib.import_module('compose_config').known_methods


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """Tiny models, none of which draws random numbers in a forward."""
    vit = tiny_mvit()
    vit['backbone']['drop_path_rate'] = 0.0
    vit['cls_head']['dropout_ratio'] = 0.0
    model = tiny_distiller()
    model['vit_teacher']['cfg'] = vit
    # of one architecture with the student, as X3D-M with X3D-S
    model['cnn_teacher']['cfg'] = tiny_x3d()
    path = tmp_path_factory.mktemp('config') / 'tiny.py'
    Config(dict(model=model)).dump(path)
    return path


def options(config, *more):
    view = (FRAMES, 2 * SIZE)  # maps of more than one position
    given = ['--config', config, '--device', 'cpu', '--rounds', '2']
    given += ['--student-view', *view, '--teacher-view', *view, *more]
    return list(map(str, given))


@pytest.fixture(scope='module')
def outcome(config):
    """Output and files of a run of all groups."""
    out = config.with_name('out.md'), config.with_name('out.json')
    with pytest.MonkeyPatch.context() as patch:
        small = dict(frames=24, width=80, height=64)
        patch.setattr(workbench, 'VIDEO', small)
        given = options(config, '--out', out[0], '--json', out[1])
        run_tool(tool, patch, *given)
    return out[0].read_text(), json.loads(out[1].read_text())


@pytest.fixture(scope='module')
def bench(config, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', ['benchmark.py', *options(config)])
        args = tool.parse_args()
    with DefaultScope.overwrite_default_scope('mmaction'):
        return workbench.Workbench(args, tmp_path_factory.mktemp('bench'))


class TestOutcome:
    def test_every_measurement_is_there(self, outcome):
        rows = outcome[1]['rows']
        found = {(r['group'], r['name'], r['reference']) for r in rows}
        assert len(found) == len(rows)
        for layout in ('stock layout', 'channels-last'):
            student = f'student step, {layout}'
            for name, reference in (
                ('cached step', student),
                ('live step', student),
                ('live step', f'{student} + teachers'),
                ('plain loop', f'{student} + teachers'),
            ):
                assert ('steps', f'{name}, {layout}', reference) in found
        names = {(group, name) for group, name, _ in found}
        for teacher, rewrites in (
            ('vit', ['mvit_attention']),
            ('cnn', ['fold_batchnorm', 'channels_last']),
        ):
            for option in (*rewrites, 'all speedups', 'all speedups, bf16'):
                assert ('teachers', f'{teacher}_teacher: {option}') in names
        for name in (
            'loss_sr',
            'loss_sd with its branch',
            'loss_rkd',
            'bytes kept for backward, cached step',
            'bytes kept for backward, live step',
        ):
            assert ('losses', name) in names
        assert {name for group, name in names if group == 'loading'} == {
            'DecordDecode',
            'FrameExactDecode',
            'PyAVDecode',
            'OpenCVDecode',
            'kept views',
            'teacher cache',
        }
        methods = {name for group, name in names if group == 'methods'}
        assert methods == {*known_methods(), 'DT-KD'} - {'takd'}
        assert len(outcome[1]['targets']) == len(report.TARGETS)

    def test_numbers_are_numbers(self, outcome):
        for row in outcome[1]['rows']:
            assert 0 < row['low'] <= row['ratio'] <= row['high']
            assert math.isfinite(row['high'])
            if 'bytes' not in row['name']:
                assert row['seconds'] > 0 and row['spread'] >= 0
                assert row['cpu_ratio'] > 0

    def test_the_tables_are_the_json(self, outcome):
        text, found = outcome
        cells = [
            [cell.strip() for cell in line.strip('|').split('|')]
            for line in text.splitlines()
            if line.startswith('|') and '---' not in line
        ]
        targets = [c for c in cells if len(c) == 4][1:]
        rows = [c for c in cells if len(c) == 7][1:]
        assert len(targets) == len(found['targets'])
        for cell, target in zip(targets, found['targets']):
            assert cell[0] == target['title']
            assert float(cell[2]) == pytest.approx(
                target['measured'], abs=6e-4
            )
            assert cell[3] == ('yes' if target['met'] else 'no')
        assert len(rows) == len(found['rows'])
        for cell, row in zip(rows, found['rows']):
            assert cell[:2] == [row['name'], row['reference']]
            assert cell[2] == f'{row["ratio"]:.3f}'

    def test_rewrites_are_exact_and_low_precision_is_not(self, outcome):
        for row in outcome[1]['rows']:
            difference = row['facts'].get('logit difference / std')
            if difference is not None:
                assert (difference > 1e-3) == ('bf16' in row['name'])
            assert row['facts'].get('logits within 5e-05', True)

    def test_the_export_is_the_stock_model(self, outcome):
        (row,) = (r for r in outcome[1]['rows'] if r['group'] == 'export')
        assert row['facts'] == {
            'keys identical': True,
            'logits bit-equal': True,
        }


class TestSteps:
    """The steps that are compared compute the same losses."""

    def test_a_loop_by_hand(self, bench):
        batch = bench.batch(bench.live)
        ours = steps.total_loss(bench.live, batch).detach()
        by_hand = steps.plain_loop_loss(bench.live, batch).detach()
        assert float(by_hand) == pytest.approx(float(ours), rel=1e-5)

    @pytest.mark.parametrize('own_views', [True, False])
    def test_mmrazor_style(self, bench, own_views):
        razor = bench.distiller(
            speedups=False,
            type='MMRazorStyleDistiller',
            teacher_mode='bn_eval_only',
            own_views=own_views,
        )
        batch = bench.batch(razor)
        ours = bench.live(**batch, mode='loss')
        theirs = razor(**batch, mode='loss')
        # Another normalisation, the student's, gives the ViT other inputs.
        for name in ('loss_cls', 'loss_sr', 'loss_sd', 'loss_rkd'):
            same = float(theirs[name].detach()) == pytest.approx(
                float(ours[name].detach()), rel=1e-5
            )
            assert same == (own_views or name == 'loss_cls'), name

    def test_mmrazor_style_teachers_compute_their_own_loss(
        self, bench, monkeypatch
    ):
        razor = bench.distiller(
            speedups=False,
            type='MMRazorStyleDistiller',
            teacher_mode='bn_eval_only',
        )
        called = []
        for name, teacher in razor.teachers.items():
            head = teacher.recognizer.cls_head
            assert head.training
            monkeypatch.setattr(
                head,
                'loss_by_feat',
                lambda *_, name=name, **__: called.append(name) or {},
            )
        razor(**bench.batch(razor), mode='loss')
        assert sorted(called) == ['cnn', 'vit']

    def test_a_cached_step_reads_what_was_written(self, bench):
        cached = bench.cached()
        batch = bench.batch(cached)
        ours = float(steps.total_loss(bench.live, batch).detach())
        read = steps.total_loss(cached, batch).detach()
        assert float(read) == pytest.approx(ours, rel=1e-2)
        assert not cached._teachers

    def test_copies_share_teachers_and_nothing_else(self, bench):
        other = copy.deepcopy(bench.live)
        assert other.student is not bench.live.student
        assert other.student_tap.recognizer is other.student
        assert other.teachers['vit'] is bench.live.teachers['vit']

    def test_stock_teachers_are_not_rewritten(self, bench):
        def norms(distiller):
            modules = distiller.teachers['cnn'].modules()
            return sum(isinstance(m, _BatchNorm) for m in modules)

        assert norms(bench.live) < norms(bench.distiller(speedups=False))

    def test_a_step_trains(self, bench):
        distiller = copy.deepcopy(bench.live)
        steps.step_of(distiller, steps.total_loss, bench.data)()
        gradients = [p.grad for p in distiller.student.parameters()]
        assert all(g is not None and g.isfinite().all() for g in gradients)


def test_views_are_those_of_the_config():
    model = tiny_distiller()
    assert workbench.choose_views(model, None, None) == {
        'student': [FRAMES, SIZE],
        'vit_teacher': [FRAMES, SIZE],
        'cnn_teacher': [FRAMES, 48],
    }
    given = workbench.choose_views(model, None, [2, 64])
    assert given['student'] == [FRAMES, SIZE]
    assert given['vit_teacher'] == given['cnn_teacher'] == [2, 64]
    model['student'].pop('view')
    with pytest.raises(SystemExit, match='model.student.view.*--student-view'):
        workbench.choose_views(model, None, None)


def test_no_two_models_are_alike(bench):
    states = [
        torch.load(bench.model[key].checkpoint)['state_dict']
        for key in workbench.MODEL_KEYS
    ]
    stems = [next(v for v in s.values() if v.ndim == 5) for s in states]
    assert len({float(stem.flatten()[0]) for stem in stems}) == 3


def test_weights_are_of_the_scale_of_trained_ones(bench):
    batch = bench.batch(bench.live)
    for teacher in bench.live.teachers.values():
        logits = teacher(batch['inputs']).logits
        assert 1 < float(logits.std()) < 9
        assert float(logits.std(dim=0).mean()) > 1e-3  # clips differ


class TestTimes:
    def test_ratios_are_paired_within_a_round(self, monkeypatch):
        """A machine that slows down fourfold does not change a ratio."""
        clock = [0.0]
        monkeypatch.setattr(timing, 'now', lambda: clock[0])
        monkeypatch.setattr(timing.time, 'process_time', lambda: clock[0])
        speed = iter([1, 1, 1, 1, 1, 1, 4, 4, 4, 2, 2, 2])

        def takes(seconds):
            def run():
                clock[0] += seconds * next(speed)

            return run

        times = timing.Times(dict(a=takes(3), b=takes(1), c=takes(2)), 3)
        assert times.seconds['b'] == [1, 4, 2]
        row = times.row('group', 'a', 'b', 'c', known=True)
        assert (row.ratio, row.low, row.high, row.cpu_ratio) == (1, 1, 1, 1)
        assert row.reference == 'b + c'
        assert (row.seconds, row.spread) == (6, 4.5)
        assert row.facts == dict(known=True)


class TestTargets:
    def row(self, ratio, **facts):
        return timing.Row(
            'export',
            "the distiller's student",
            'stock model with the export',
            *[ratio] * 3,
            facts=facts,
        )

    def test_are_met_or_not(self):
        equal = 'logits bit-equal'
        for ratio, facts, met in (
            (1.01, {equal: True}, True),
            (1.03, {equal: True}, False),
            (0.97, {equal: True}, False),
            (1.00, {equal: False}, False),
        ):
            (judgement,) = report.judge([self.row(ratio, **facts)])
            assert judgement.met == met
            assert judgement.wanted == '0.98 to 1.02'

    def test_what_was_not_measured_is_not_judged(self):
        assert report.judge([]) == []


class TestRefusals:
    def run(self, monkeypatch, *arguments):
        with pytest.raises(SystemExit) as caught:
            run_tool(tool, monkeypatch, *arguments)
        return str(caught.value)

    def test_of_options(self, monkeypatch, capsys):
        self.run(monkeypatch, '--groups', 'speed')
        message = capsys.readouterr().err
        assert "'speed'" in message and 'steps' in message
        self.run(monkeypatch, '--batch', '1')
        assert 'one clip selects other kernels' in capsys.readouterr().err

    @pytest.mark.parametrize(
        'change, named',
        [
            (dict(type='SimKDDistiller'), "model.type='SimKDDistiller'"),
            (dict(loss_sd=None), 'model: loss_sd'),
            (dict(losses=dict(kd=dict(type='KDLoss'))), 'model: losses'),
        ],
    )
    def test_of_configs(self, monkeypatch, tmp_path, change, named):
        Config(dict(model=tiny_distiller(**change))).dump(tmp_path / 'c.py')
        message = self.run(monkeypatch, '--config', tmp_path / 'c.py')
        assert named in message
