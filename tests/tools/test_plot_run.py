"""Curves of runs: what is read, joined and drawn."""

import json
import os.path as osp
import re

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)
from tiny_distillation import ROOT, load_tool, run_tool, write_distillation

tool = load_tool('plot_run')


def trained(step, per_epoch=4, **scalars):
    epoch = 1 + (step - 1) // per_epoch
    record = dict(lr=0.1, loss=1.0 / step, loss_cls=1.0 / step, time=0.1)
    return dict(record, **scalars, epoch=epoch, iter=step, step=step)


def validated(epoch, top1):
    return {'acc/top1': top1, 'acc/top5': 1.0, 'time': 0.1, 'step': epoch}


def write_log(work_dir, timestamp, records, name='scalars.json'):
    folder = work_dir / timestamp / 'vis_data'
    folder.mkdir(parents=True)
    (folder / name).write_text('\n'.join(map(json.dumps, records)))
    return folder / name


def monitors(step):
    return {
        'loss_sr': 2.0,
        'datw/vit': 0.25 + step / 100,
        'datw/cnn': 0.75 - step / 100,
        'mask_kept': 0.24,
        'residual_var': 1.5,
    }


def test_weights_of_every_loss_share_a_panel_and_a_style(tmp_path):
    """Two runs with different losses over the same teachers."""
    for name, prefix in (('one', 'ebkd'), ('two', 'datw')):
        weights = {f'{prefix}/cnn': 0.6, f'{prefix}/vit': 0.4}
        write_log(
            tmp_path / name, '1', [trained(s, **weights) for s in (1, 2)]
        )
    runs = [tool.read_run(f'{tmp_path}/{name}') for name in ('one', 'two')]
    (panel,) = [p for p in tool.panels_of(runs) if p.title == 'teacher weight']
    assert set(panel.keys) == {'ebkd/cnn', 'ebkd/vit', 'datw/cnn', 'datw/vit'}
    (axis,) = [a for a in tool.draw(runs).axes if a.get_title() == panel.title]
    styles = {}
    for line in axis.get_lines():
        styles.setdefault(line.get_label(), set()).add(line.get_linestyle())
    assert {name: len(found) for name, found in styles.items()} == {
        'cnn': 1,
        'vit': 1,
    }
    assert styles['cnn'] != styles['vit']


class TestReading:
    def test_steps_and_validations(self, tmp_path):
        log = [trained(2), trained(4), validated(1, 0.5), trained(6)]
        write_log(tmp_path / 'run', '1', log)
        run = tool.read_run(f'{tmp_path}/run/')
        assert (run.name, run.logs, run.by_epoch) == ('run', 1, True)
        steps, values = tool.curve(run, 'loss', False)
        assert steps.tolist() == [2, 4, 6]
        assert values.tolist() == [1 / 2, 1 / 4, 1 / 6]
        steps, values = tool.curve(run, 'acc/top1', True)
        assert (steps.tolist(), values.tolist()) == ([1], [0.5])

    def test_a_resumed_run_is_one(self, tmp_path):
        """Resumed after epoch 1; the later log has what really happened."""
        old = [trained(s, loss=9.0) for s in (2, 4)] + [validated(1, 0.1)]
        old += [trained(s, loss=9.0) for s in (6, 8)] + [validated(2, 0.2)]
        old += [trained(10, loss=9.0)]
        new = [trained(6, loss=5.0), trained(8, loss=5.0), validated(2, 0.3)]
        write_log(tmp_path, '20260101_000000', old)
        write_log(tmp_path, '20260101_000001', new)
        run = tool.read_run(str(tmp_path))
        steps, values = tool.curve(run, 'loss', False)
        assert steps.tolist() == [2, 4, 6, 8]  # no 10: not reached again
        assert values.tolist() == [9, 9, 5, 5]
        steps, values = tool.curve(run, 'acc/top1', True)
        assert (steps.tolist(), values.tolist()) == ([1, 2], [0.1, 0.3])
        assert run.logs == 2

    def test_a_run_that_was_started_anew_is_the_new_one(self, tmp_path):
        old = [trained(s) for s in (2, 4)] + [validated(1, 0.9)]
        write_log(tmp_path, '1', old)
        write_log(tmp_path, '2', [trained(2, loss=7.0)])
        run = tool.read_run(str(tmp_path))
        assert [r['loss'] for r in run.training] == [7.0]
        assert run.validation == []

    def test_a_run_that_counts_iterations(self, tmp_path):
        old = [trained(s) for s in (2, 4)] + [validated(4, 0.5), trained(6)]
        new = [trained(6), trained(8), validated(8, 0.6)]
        for records in (old, new):
            for record in records:
                record.pop('epoch', None)
        write_log(tmp_path, '1', old)
        write_log(tmp_path, '2', new)
        run = tool.read_run(str(tmp_path))
        assert not run.by_epoch
        assert tool.curve(run, 'acc/top1', True)[0].tolist() == [4, 8]

    def test_a_later_test_is_no_part_of_it(self, tmp_path):
        write_log(tmp_path, '1', [trained(2), validated(1, 0.5)])
        write_log(tmp_path, '2', [validated(0, 0.9)])
        run = tool.read_run(str(tmp_path))
        assert [r['acc/top1'] for r in run.validation] == [0.5]
        assert run.logs == 1

    def test_the_log_with_the_timestamp_does_as_well(self, tmp_path):
        write_log(tmp_path, '1', [trained(2)], '1.json')
        assert len(tool.read_run(str(tmp_path)).training) == 1

    def test_a_line_that_a_kill_cut_short(self, tmp_path):
        path = write_log(tmp_path, '1', [trained(2), trained(4)])
        text = path.read_text()
        path.write_text(text[:-9])
        assert len(tool.read_run(str(tmp_path)).training) == 1
        path.write_text(text[9:])
        with pytest.raises(ValueError, match='scalars.json, line 1'):
            tool.read_run(str(tmp_path))

    def test_nothing_there(self, tmp_path, monkeypatch):
        with pytest.raises(SystemExit, match='vis_data/scalars.json and '):
            run_tool(tool, monkeypatch, tmp_path)
        write_log(tmp_path, '1', [validated(0, 0.9)])
        with pytest.raises(SystemExit, match='No scalars of a training'):
            run_tool(tool, monkeypatch, tmp_path)


class TestDrawing:
    @pytest.fixture
    def runs(self, tmp_path):
        steps = range(1, 81)
        log = [trained(s, **monitors(s)) for s in steps]
        write_log(tmp_path / 'dtkd', '1', [*log, validated(20, 0.8)])
        log = [trained(s) for s in steps[::2]]
        write_log(tmp_path / 'alone', '1', [*log, validated(20, 0.6)])
        return [tool.read_run(f'{tmp_path}/{n}') for n in ('dtkd', 'alone')]

    def axes(self, runs, **kwargs):
        figure = tool.draw(runs, **kwargs)
        found = {axis.get_title(): axis for axis in figure.axes}
        tool.plt.close(figure)
        return found

    def test_panels_are_what_the_runs_have(self, runs):
        assert list(self.axes(runs)) == [
            'validation acc/top1 (fraction)',
            'loss',
            'loss_cls',
            'loss_sr',
            'teacher weight',
            'mask_kept (fraction of positions)',
            'residual_var',
            'lr',
        ]
        assert list(self.axes(runs[1:])) == [
            'validation acc/top1 (fraction)',
            'loss',
            'loss_cls',
            'lr',
        ]

    def test_runs_lie_over_each_other(self, runs):
        axes = self.axes(runs, smooth=1)
        dtkd, alone = axes['loss_cls'].lines
        assert dtkd.get_color() != alone.get_color()
        assert len(dtkd.get_xdata()) == 80
        assert alone.get_xdata().tolist() == list(range(1, 81, 2))
        assert alone.get_ydata()[1] == pytest.approx(1 / 3)
        assert len(axes['loss_sr'].lines) == 1
        assert axes['validation acc/top1 (fraction)'].get_xlabel() == 'epoch'
        assert axes['loss'].get_xlabel() == 'iteration'

    def test_both_teachers_share_a_panel(self, runs):
        axis = self.axes(runs, smooth=1)['teacher weight']
        vit, cnn = axis.lines
        assert vit.get_linestyle() != cnn.get_linestyle()
        assert np.allclose(vit.get_ydata() + cnn.get_ydata(), 1)
        legend = [text.get_text() for text in axis.get_legend().get_texts()]
        assert legend == ['vit', 'cnn']

    def test_smoothing_keeps_the_raw_steps_behind(self, runs):
        raw, smooth = self.axes(runs[:1], smooth=5)['loss'].lines
        assert raw.get_alpha() < 1
        values = raw.get_ydata()
        assert smooth.get_ydata()[40] == pytest.approx(values[38:43].mean())
        assert smooth.get_ydata()[0] == pytest.approx(values[:3].mean())
        (accuracy,) = self.axes(runs[:1])[
            'validation acc/top1 (fraction)'
        ].lines
        assert accuracy.get_ydata().tolist() == [0.8]

    def test_smoothing_does_not_move_a_constant(self):
        for width in (1, 2, 7, 50):
            assert np.allclose(tool.smoothed(np.full(9, 3.0), width), 3)
            assert len(tool.smoothed(np.full(9, 3.0), width)) == 9

    def test_names_that_are_alike(self, runs):
        same = [runs[0], runs[0], runs[1]]
        named = tool.distinct_names(same, ['a/dtkd', 'b/dtkd', 'a/alone'])
        names = [run.name for run in named]
        assert names == ['a/dtkd', 'b/dtkd', 'a/alone']
        named = tool.distinct_names(
            [runs[0], runs[0]], ['x/y/dtkd/seed0', 'x/y/tau_1/seed0/']
        )
        assert [run.name for run in named] == ['dtkd/seed0', 'tau_1/seed0']

    def test_long_names_fit_into_the_figure(self, runs):
        named = [run._replace(name='n' * 60) for run in runs * 2]
        figure = tool.draw(named)
        figure.canvas.draw()
        (legend,) = figure.legends
        box = legend.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
        tool.plt.close(figure)

    def test_legend_of_a_panel_hides_no_curve(self, runs):
        figure = tool.draw(runs)
        figure.canvas.draw()
        (axis,) = (a for a in figure.axes if a.get_legend() is not None)
        below = axis.get_legend().get_window_extent().y0
        for line in axis.lines:
            points = axis.transData.transform(line.get_xydata())
            assert points[:, 1].max() < below
        tool.plt.close(figure)


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    """A distillation with the visualizer of the document, resumed once."""
    root = tmp_path_factory.mktemp('logged')
    config = Config.fromfile(write_distillation(root))
    with open(osp.join(ROOT, 'docs/analysis.md')) as f:
        visualizer = re.search(r'```python\n(.*?)```', f.read(), re.DOTALL)[1]
    config.merge_from_dict(
        dict(
            Config.fromstring(visualizer, '.py'),
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1),
                checkpoint=dict(type='AtomicCheckpointHook', interval=1),
            ),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.001)),
            train_cfg=dict(type='ResumableTrainLoop'),
            work_dir=str(root / 'run'),
            randomness=dict(seed=0),
        )
    )
    config.train_dataloader.update(
        batch_size=1,
        num_workers=0,
        sampler=dict(type='KeyedViewSampler', shuffle=True),
    )
    config.pop('val_dataloader')
    for epochs in (1, 2):
        config.train_cfg.max_epochs = epochs
        config.resume = epochs > 1
        config.experiment_name = f'{root.name}_{epochs}'  # one a process
        Runner.from_cfg(config).train()
    return root / 'run'


MONITORS = {
    f'{monitor}/{teacher}'
    for monitor in ('datw', 'confidence', 'discrepancy')
    for teacher in ('vit', 'cnn')
} | {'mask_kept', 'residual_var'}


def test_a_real_run_has_every_panel(work_dir, monkeypatch, capsys):
    run = tool.read_run(str(work_dir))
    assert tool.curve(run, 'loss', False)[0].tolist() == [1, 2, 3, 4, 5, 6]
    titles = [panel.title for panel in tool.panels_of([run])]
    for title in (
        'loss_cls',
        'loss_sr',
        'loss_sd',
        'loss_rkd',
        'residual_var',
    ):
        assert title in titles
    assert {'teacher weight', 'teacher confidence'} < set(titles)
    out = work_dir / 'pictures' / 'run.png'
    run_tool(tool, monkeypatch, work_dir, '--out', out)
    assert '6 iterations' in capsys.readouterr().out
    assert tool.plt.imread(out).std() > 0.05


def test_tensorboard_has_the_same_monitors(work_dir):
    run = tool.read_run(str(work_dir))
    values = {}
    for folder in sorted(work_dir.glob('*/vis_data')):
        events = EventAccumulator(str(folder)).Reload()
        for tag in events.Tags()['scalars']:
            for event in events.Scalars(tag):
                values[tag, event.step] = event.value
    assert MONITORS <= {tag for tag, _ in values}
    for record in run.training:
        for key in MONITORS | {'loss_sr', 'loss_sd', 'loss_rkd'}:
            assert values[key, record['step']] == pytest.approx(
                record[key], rel=1e-5
            )
