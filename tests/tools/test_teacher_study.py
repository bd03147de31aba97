"""The gain of distillation by confidence and discrepancy."""

import json

import numpy as np
import pytest
import torch
from inspection import build_distiller, centred_dataset
from mmengine.config import Config
from rich.console import Console
from tiny_distillation import (
    lively,
    load_tool,
    run_tool,
    write_distillation,
)
from tiny_models import tiny_x3d

from dtkd_mmaction.losses.datw import (
    student_teacher_discrepancy,
    teacher_confidence,
)
from dtkd_mmaction.recognizers.class_parts import ClassPart

tool = load_tool('teacher_study')


class TestPairedGain:
    def test_by_hand(self):
        # (4 + 1) / 12 - (1 + 1) / 12, and sqrt((7/12 - 1/16) / 12) = 5/24
        result = tool.paired_gain(fixed=4, broken=1, clips=10)
        assert result['gain'] == pytest.approx(0.3)
        half = 1.959964 * 5 / 24
        assert result['interval'] == pytest.approx([0.25 - half, 0.25 + half])
        assert result['within_noise']

    def test_many_clips_tell_what_few_do_not(self):
        assert not tool.paired_gain(400, 100, 1000)['within_noise']
        assert tool.paired_gain(2, 0, 2)['within_noise']
        assert not tool.paired_gain(10, 0, 10)['within_noise']
        assert tool.paired_gain(0, 0, 0) == dict(
            gain=None, interval=None, within_noise=True
        )

    @pytest.mark.parametrize('clips', [8, 60])
    def test_covers_the_truth_as_often_as_it_says(self, clips):
        rng = np.random.default_rng(0)
        counts = rng.multinomial(clips, [0.3, 0.1, 0.6], size=2000)
        covered = 0
        for fixed, broken, _ in counts:
            low, high = tool.paired_gain(fixed, broken, clips)['interval']
            covered += (low <= 0.2 <= high) / len(counts)
        assert 0.93 < covered < 0.99


def known_case(fixed_in, clips=180, seed=0):
    """All students are right half the time; one cell is mended."""
    rng = np.random.default_rng(seed)
    confidence = rng.permutation(clips) / clips
    discrepancy = rng.permutation(clips)[None] / clips
    alone = rng.random((1, clips)) < 0.5
    row, column = (3 * confidence) // 1, (3 * discrepancy[0]) // 1
    cell = (row == fixed_in[0]) & (column == fixed_in[1])
    return confidence, discrepancy, alone | cell, alone, cell


class TestStudy:
    @pytest.mark.parametrize('place', [(2, 2), (0, 1)])
    def test_finds_the_bin_where_the_gain_is(self, place):
        *case, cell = known_case(place)
        result = tool.study(*case, teacher=cell, bins=3)
        alone = case[3][0]
        for i in range(3):
            for j in range(3):
                found = result['cells'][i][j]
                here = (i, j) == place
                assert found['broken'] == 0
                assert found['fixed'] == (~alone[cell]).sum() * here
                assert (found['gain'] > 0.2) == here
                assert found['within_noise'] != here
                assert found['accuracy_teacher'] == float(here)
        found = result['cells'][place[0]][place[1]]
        assert found['clips'] == cell.sum()
        assert found['accuracy_distilled'] == 1
        assert found['accuracy_alone'] == alone[cell].mean()
        assert found['gain'] == pytest.approx(1 - alone[cell].mean())
        verdict = result['claim']['verdict']
        assert verdict.startswith('larger') == (place == (2, 2))

    def test_three_verdicts(self):
        much, none = (tool.paired_gain(w, 0, 200) for w in (100, 0))
        larger = tool.contrast(much, none)
        assert larger['difference'] == 0.5
        assert larger['verdict'] == 'larger, as the paper says'
        low, high = larger['interval']
        assert low < much['interval'][0] < much['interval'][1] < high
        smaller = tool.contrast(none, much)
        assert smaller['verdict'] == 'smaller, against the paper'
        assert smaller['interval'] == pytest.approx([-high, -low])
        same = tool.contrast(much, much)
        assert same['verdict'].startswith('not told apart')
        assert same['difference'] == 0

    @pytest.mark.parametrize('bins', [1, 2, 3, 5])
    def test_counts_add_up(self, bins):
        *case, cell = known_case((2, 2))
        result = tool.study(*case, teacher=cell, bins=bins)
        overall = result['overall']
        assert overall['clips'] == 180
        for count in ('clips', 'fixed', 'broken'):
            cells = [[c[count] for c in line] for line in result['cells']]
            rows = [c[count] for c in result['by_confidence']]
            columns = [c[count] for c in result['by_discrepancy']]
            assert np.sum(cells, axis=1).tolist() == rows
            assert np.sum(cells, axis=0).tolist() == columns
            assert sum(rows) == sum(columns) == overall[count]
            if count == 'clips':
                assert rows == columns == [180 / bins] * bins
        for edges in ('confidence_edges', 'discrepancy_edges'):
            assert len(result[edges]) == bins + 1

    def test_seeds_are_averaged(self):
        confidence, discrepancy = np.array([0.1, 0.9]), np.array([[0.5, 0.5]])
        distilled = np.array([[True, True], [False, True], [True, False]])
        alone = np.array([[False, True]])
        overall = tool.study(
            confidence, discrepancy, distilled, alone, alone[0], 1
        )['overall']
        # of three pairs: clip 1 mended in two, clip 2 spoilt in one
        assert overall['fixed'] == pytest.approx(2 / 3)
        assert overall['broken'] == pytest.approx(1 / 3)
        assert overall['gain'] == pytest.approx(1 / 6)
        assert overall['accuracy_distilled'] == pytest.approx(4 / 6)

    def test_several_baselines_take_out_what_is_chance(self):
        """No gain anywhere; each run lies far where it is wrong."""
        rng = np.random.default_rng(0)
        right = rng.random((4, 3000)) < 0.6
        distilled, alone = right[:1], right[1:]
        discrepancy = (~alone) + 0.5 * rng.random(alone.shape)
        case = dict(
            confidence=rng.random(3000),
            distilled=distilled,
            teacher=np.ones(3000, dtype=bool),
            bins=3,
        )
        one = tool.study(discrepancy=discrepancy[:1], alone=alone[:1], **case)
        assert one['by_discrepancy'][-1]['gain'] > 0.4
        assert one['claim']['verdict'].startswith('larger')
        three = tool.study(discrepancy=discrepancy, alone=alone, **case)
        for cell in [*three['by_discrepancy'], three['overall']]:
            assert abs(cell['gain']) < 0.03
        assert three['claim']['verdict'].startswith('not told apart')
        assert three['overall']['clips'] == 3000

    def test_a_bin_without_clips(self):
        clips = np.arange(6) / 6  # discrepancy falls with confidence
        right = np.ones((1, 6), dtype=bool)
        result = tool.study(clips, -clips[None], right, right, right[0], 2)
        empty = result['cells'][1][1]
        assert (empty['clips'], empty['gain']) == (0, None)
        assert empty['accuracy_alone'] is None
        assert result['claim']['verdict'].startswith('cannot be told')
        text = self.shown(result)
        assert 'the gain cannot be told' in text
        assert 'no clip' in text
        figure = tool.draw(dict(vit=result))
        assert 'no clip' in [text.get_text() for text in figure.axes[0].texts]
        tool.plt.close(figure)

    def shown(self, result):
        console = Console(width=140, record=True, file=open('/dev/null', 'w'))
        tool.show('vit', result, console)
        return console.export_text()

    def test_what_is_shown(self):
        *case, cell = known_case((2, 2))
        result = tool.study(*case, teacher=cell, bins=3)
        text = self.shown(result)
        gain = f'{100 * result["cells"][2][2]["gain"]:+.1f}'
        line = next(line for line in text.splitlines() if gain in line)
        assert f'{100 * case[3][0][cell].mean():.1f} ' in line
        assert 'within noise' not in line
        # 8 cells and 2 of each margin
        assert text.count('within noise') == 12
        assert f'is {gain} points, elsewhere +0.0' in text.replace('\n', ' ')
        assert 'larger, as the paper says' in text.replace('\n', ' ')
        figure = tool.draw(dict(vit=result, cnn=result))
        vit, cnn, colours = figure.axes
        assert (vit.get_title(), cnn.get_title()) == (
            'vit teacher',
            'cnn teacher',
        )
        image = vit.images[0]
        gains = image.get_array()
        assert gains.shape == (4, 4)
        assert gains[2, 2] == pytest.approx(float(gain), abs=0.05)
        assert gains[3, 3] == pytest.approx(100 * result['overall']['gain'])
        assert image.get_clim()[0] == -image.get_clim()[1]
        texts = [text.get_text() for text in vit.texts]
        assert len(texts) == 16
        assert sum('within noise' in text for text in texts) == 12
        assert texts[10].startswith(gain)
        tool.plt.close(figure)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A config, two students of it and two trained alone."""
    root = tmp_path_factory.mktemp('study')
    path = write_distillation(root)
    for seed in range(2):
        _, distiller = build_distiller(path)
        student = lively(tiny_x3d(), seed=10 + seed)
        distiller.student.load_state_dict(student.state_dict())
        state = dict(state_dict=distiller.state_dict())
        torch.save(state, root / f'dtkd_{seed}.pth')
        state = dict(state_dict=student.state_dict())
        torch.save(state, root / f'student_dtkd_{seed}.pth')
        alone = lively(tiny_x3d(), seed=20 + seed)
        state = dict(state_dict=alone.state_dict())
        torch.save(state, root / f'alone_{seed}.pth')
    return root


def numbers(folder, monkeypatch, student, baseline, *options):
    run_tool(
        tool,
        monkeypatch,
        *(folder / 'dtkd.py', folder / student, folder / baseline),
        *('--workers', 0, '--out', folder / 'study.png'),
        *('--json', folder / 'study.json', *options),
    )
    return json.loads((folder / 'study.json').read_text())


@torch.no_grad()
def said_by(model, view, dataset):
    """Logits, a clip at a time, by MMAction2's own forward."""
    model.eval()
    logits = []
    for i in range(len(dataset)):
        clip = dataset.prepare_data(i)['inputs'][None]
        data = dict(inputs=list(view(clip)), data_samples=None)
        inputs = model.data_preprocessor(data)['inputs']
        logits.append(model(inputs, stage='head', mode='tensor'))
    return torch.cat(logits)


def test_json_is_what_the_models_say(folder, monkeypatch):
    runs = ('dtkd_0.pth', 'alone_1.pth')
    found = numbers(folder, monkeypatch, *runs, '--bins', 2)
    config, distiller = build_distiller(str(folder / 'dtkd.py'))
    dataset = centred_dataset(config, 'val')
    labels = [dataset.get_data_info(i)['label'] for i in range(8)]
    labels = torch.tensor(labels)
    students = {}
    for name in ('dtkd_0', 'alone_1'):
        source = 'student_dtkd_0' if name == 'dtkd_0' else name
        state = torch.load(folder / f'{source}.pth')['state_dict']
        distiller.student.load_state_dict(state)
        students[name] = said_by(
            distiller.student, distiller.student_view, dataset
        )
    distilled = students['dtkd_0'].argmax(1) == labels
    alone = students['alone_1'].argmax(1) == labels
    assert found['clips'] == 8
    assert list(found['teachers']) == ['vit', 'cnn']
    for name, result in found['teachers'].items():
        overall = result['overall']
        assert overall['fixed'] == int((distilled & ~alone).sum())
        assert overall['broken'] == int((alone & ~distilled).sum())
        assert overall['accuracy_alone'] == float(alone.float().mean())
        teacher = distiller.teachers[name]
        logits = said_by(teacher.recognizer, teacher.view, dataset)
        assert overall['accuracy_teacher'] == float(
            (logits.argmax(1) == labels).float().mean()
        )
        confidence = teacher_confidence(logits, 4.0, 'one_plus_negentropy')
        discrepancy = student_teacher_discrepancy(
            students['alone_1'], logits, 'prob_cosine', 4.0
        )
        for edges, values in (
            (result['confidence_edges'], confidence),
            (result['discrepancy_edges'], discrepancy),
        ):
            wanted = [values.min(), values.double().median(), values.max()]
            lower, upper = values.sort().values[3:5].tolist()
            wanted[1] = (lower + upper) / 2
            assert edges == pytest.approx([float(x) for x in wanted], rel=1e-4)
        high = (confidence > confidence.sort().values[3]) & (
            discrepancy > discrepancy.sort().values[3]
        )
        assert result['cells'][1][1]['clips'] == int(high.sum())
    # the case says something
    assert distilled.any() and alone.any()
    assert (distilled != alone).any()


def test_a_runs_checkpoint_or_its_export(folder, monkeypatch):
    run = numbers(folder, monkeypatch, 'dtkd_1.pth', 'alone_0.pth')
    export = numbers(folder, monkeypatch, 'student_dtkd_1.pth', 'alone_0.pth')
    assert run.pop('students') != export.pop('students')
    assert run == export
    assert 'One run alone' in run['compared']


def test_patterns_name_seeds(folder, monkeypatch, capsys):
    found = numbers(folder, monkeypatch, 'dtkd_?.pth', 'alone_*.pth')
    assert len(found['students']) == len(found['baselines']) == 2
    assert 'the others are compared' in found['compared']
    printed = capsys.readouterr().out
    assert '8 clips, one centre view; 2 distilled run(s), 2 alone' in printed
    assert tool.plt.imread(folder / 'study.png').std() > 0.05
    monkeypatch.setattr(tool, 'draw', lambda results: tool.plt.figure())
    single = [
        numbers(folder, monkeypatch, f'dtkd_{s}.pth', f'alone_{b}.pth')
        for s in range(2)
        for b in range(2)
    ]
    for name in ('vit', 'cnn'):
        gains = [s['teachers'][name]['overall']['gain'] for s in single]
        overall = found['teachers'][name]['overall']
        assert overall['gain'] == pytest.approx(np.mean(gains))


def test_a_head_of_two_parts_has_a_study_of_each():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 12, 7, generator=generator)
    labels = torch.stack([torch.arange(12) % 3, torch.arange(12) % 4], 1)
    answers = tool.Answers(
        labels, dict(vit=logits[0]), logits[1:2], logits[2:]
    )
    options = tool.measures(None)
    for part in (ClassPart('_verb', 0, 0, 3), ClassPart('_noun', 1, 3, 4)):
        (name,) = results = tool.study_part(answers, part, options, 2)
        assert name == f'vit{part.suffix}'
        said = logits[0][:, part.start : part.start + part.count].argmax(1)
        right = (said == labels[:, part.index]).float().mean()
        accuracy = results[name]['overall']['accuracy_teacher']
        assert accuracy == pytest.approx(float(right))


def test_the_printed_sign_of_eq_4_is_corrected(folder):
    for preset in ('corrected', 'paper_literal'):
        _, distiller = build_distiller(
            str(folder / 'dtkd.py'), {'model.preset': preset}
        )
        options = tool.measures(distiller)
        assert options['confidence'] == 'one_plus_negentropy'
        assert options['tau'] == options['conf_temperature'] == 4
    assert options['discrepancy'] == 'raw_cosine'


@pytest.mark.parametrize(
    'student, baseline, message',
    [
        ('none_*.pth', 'alone_0.pth', 'STUDENT=.*no file has this name'),
        ('dtkd_0.pth', 'none.pth', 'BASELINE=.*no file has this name'),
        ('dtkd_0.pth', 'vit.pth', 'vit.pth does not fit the config'),
    ],
)
def test_refusals(folder, monkeypatch, student, baseline, message):
    with pytest.raises(SystemExit, match=message):
        numbers(folder, monkeypatch, student, baseline)


def test_what_cannot_work_is_said_before_the_clips_are_read(
    folder, monkeypatch, capsys
):
    checkpoints = [folder / 'dtkd_0.pth', folder / 'alone_0.pth']
    for option in ('--out', '--json'):
        arguments = [*checkpoints, option, f'{__file__}/study']
        with pytest.raises(SystemExit, match='test_teacher_study.py'):
            run_tool(tool, monkeypatch, folder / 'dtkd.py', *arguments)
    arguments = [*checkpoints, '--batch-size', 0]
    with pytest.raises(SystemExit):
        run_tool(tool, monkeypatch, folder / 'dtkd.py', *arguments)
    assert '--batch-size 0: at least 1' in capsys.readouterr().err


def test_a_config_that_distils_nothing(folder, monkeypatch):
    config = Config.fromfile(folder / 'dtkd.py')
    config.model = tiny_x3d()
    config.dump(folder / 'stock.py')
    arguments = [folder / name for name in ('stock.py', 'cnn.pth', 'cnn.pth')]
    with pytest.raises(SystemExit, match='its model is a Recognizer3D'):
        run_tool(tool, monkeypatch, *arguments)
