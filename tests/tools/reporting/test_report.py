"""The page shows what the students answer, and says what it lacks."""

import base64
import io
import json
import re
import shutil
import subprocess

import pytest
import report
import torch
from html_page import Page
from PIL import Image
from tiny_project import CLASSES, write_project

CHROMIUM = next(
    filter(None, map(shutil.which, ('chromium', 'google-chrome', 'chrome'))),
    None,
)


def make(*arguments):
    """The page of a command line."""
    out = arguments[arguments.index('--out') + 1]
    report.main([*map(str, arguments), '--teacher-clips', '0'])
    return Page(out.read_text(encoding='utf-8'))


def picture(uri):
    head, content = uri.split(',')
    assert head == 'data:image/webp;base64'
    return Image.open(io.BytesIO(base64.b64decode(content)))


class TestPage:
    """One seed: alone always says class 0, distilled always class 1."""

    def test_accuracy_and_gain_by_class(self, page):
        found = Page(page)
        rows = [found.row('accuracy-per-class', name) for name in CLASSES[:3]]
        assert [row[1] for row in rows] == ['-100.0', '+100.0', '+0.0']
        assert [row[3] for row in rows] == ['100.0', '0.0', '0.0']
        assert [row[4] for row in rows] == ['0.0', '100.0', '0.0']
        assert {row[5] for row in rows} == {'2'}
        assert 'no difference' in found.texts['what-changed']
        assert 'fixed 2 clips and broke 2' in found.texts['what-changed']

    def test_models_and_their_cost(self, page):
        found = Page(page)
        alone = found.row('models', 'student alone')
        distilled = found.row('models', 'distilled student')
        teacher = found.row('models', 'ViT teacher')
        assert alone[2] == distilled[2] == '25.00'
        assert alone[3] == '4 × 32²'
        assert alone[3:8] == distilled[3:8]  # one architecture, one cost
        assert teacher[1:3] == ['-', '-'] and teacher[4] != alone[4]
        assert re.fullmatch(r'[\d.]+ ms', teacher[7])

    def test_confusions(self, page):
        found = Page(page)
        cells = re.findall(r'<title>([^<]*answered[^<]*)</title>', page)
        # All clips in one column of each matrix.
        assert len(cells) == 8
        name = '&lt;b&gt;run &amp; jump&lt;/b&gt;'
        assert f'{name}: 2 answered {name} (100%)' in cells
        assert f'{name}: 2 answered long jump (100%)' in cells
        changed = found.texts['confusions']
        assert 'long jump taken for <b>run & jump</b>: 2 → 0' in changed
        assert '<b>run & jump</b> taken for long jump: 0 → 2' in changed

    def test_clips_fixed_and_broken_move(self, page):
        found = Page(page)
        text = found.texts['clips-fixed-and-broken']
        assert 'Fixed: 2 clips' in text and 'Broken: 2 clips' in text
        # The list repeats the four classes: clip 1 is of class 1.
        assert text.index('val_1.mp4') < text.index('Broken: 2')
        assert text.index('val_0.mp4') > text.index('Broken: 2')
        assert 'alone: <b>run & jump</b> 9' in text and '✗' in text
        pictures = map(picture, found.pictures['clips-fixed-and-broken'])
        assert [p.n_frames for p in pictures] == [4] * 4

    def test_curves_weights_and_masks(self, page):
        found = Page(page)
        charts = {v for t, n, v in found.attributes if n == 'aria-label'}
        assert charts >= {
            'Validation accuracy',
            'Label loss on training clips',
            'Loss terms of the distilled student, as weighted',
            'Weight of each teacher',
        }
        rows = found.tables['teacher-weights']
        assert [row[0] for row in rows[1:]] == CLASSES
        for row in rows[1:]:
            assert row[1] == '1'
            assert sum(map(float, row[4:6])) == pytest.approx(1, abs=0.02)
        masks = [picture(uri) for uri in found.pictures['masks']]
        assert len(masks) == 3
        assert min(min(mask.size) for mask in masks) > 300

    def test_configs_and_versions(self, page, project):
        found = Page(page)
        text = found.texts['configs-and-versions']
        run = project / 'work_dirs/dtkd/seed0'
        assert next(run.glob('*/vis_data/config.py')).read_text() in text
        row = found.row('configs-and-versions', 'torch')
        assert row[1] == torch.__version__

    def test_nothing_is_loaded_and_names_are_text(self, page):
        found = Page(page)
        assert '<script' not in page
        for tag, name, value in found.attributes:
            assert tag != 'b' or name is None
            if name in ('src', 'srcset'):
                assert value.startswith('data:image/webp;base64,')
            if name == 'href':
                assert value.startswith('#') and value[1:] in found.texts
        assert "default-src 'none'" in page
        assert len(page) < 1e6

    @pytest.mark.skipif(CHROMIUM is None, reason='no Chromium was found')
    def test_a_browser_shows_it(self, project, page, tmp_path):
        shots = {}
        for scheme, setting in (('light', 1), ('dark', 0)):
            shot = tmp_path / f'{scheme}.png'
            ended = subprocess.run(
                [
                    CHROMIUM,
                    '--headless',
                    '--no-sandbox',
                    '--disable-gpu',
                    '--no-first-run',
                    '--disable-background-networking',
                    '--disable-component-update',
                    '--disable-sync',
                    '--enable-logging=stderr',
                    f'--user-data-dir={tmp_path / scheme}',
                    f'--blink-settings=preferredColorScheme={setting}',
                    '--window-size=800,900',
                    f'--screenshot={shot}',
                    f'file://{project}/report.html',
                ],
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert 'CONSOLE' not in ended.stderr
            shots[scheme] = Image.open(shot).convert('RGB')
        corners = {k: shot.getpixel((1, 1)) for k, shot in shots.items()}
        assert corners == dict(light=(246, 247, 248), dark=(20, 23, 27))
        assert all(len(s.getcolors(2**24)) > 50 for s in shots.values())


class TestMissingParts:
    def test_the_student_alone_is_reported_by_itself(self, project, tmp_path):
        run = project / 'work_dirs/student_alone/seed0'
        found = make(run, '--out', tmp_path / 'r.html')
        assert 'No distilled student was found' in found.texts['what-changed']
        assert found.row('models', 'student alone')[2] == '25.00'
        assert found.row('accuracy-per-class', 'class 0')[1:5] == [
            '-',
            '',
            '100.0',
            '-',
        ]
        for section in ('teacher-weights', 'masks'):
            assert 'Not available.' in found.texts[section]

    def test_teachers_and_clips_that_are_gone(self, tmp_path, capsys):
        folder = write_project(tmp_path)
        (folder / 'vit.pth').unlink()
        out = folder / 'r.html'
        report.main([str(folder), '--out', str(out)])
        found = Page(out.read_text(encoding='utf-8'))
        assert 'vit.pth' in found.texts['teacher-weights']
        assert 'vit.pth' in found.texts['masks']
        assert found.row('models', 'ViT teacher')[1:3] == ['-', '-']
        assert 'Not on the page (teachers)' in capsys.readouterr().out
        (folder / 'val.txt').unlink()
        found = make(folder, '--out', out)
        assert 'val.txt is not there' in found.texts['what-changed']
        # The logs are.
        assert found.row('models', 'student alone')[2] == '25.00'
        assert found.row('models', 'student alone')[4] != '-'

    def test_a_log_that_disagrees_is_told(self, tmp_path):
        folder = write_project(tmp_path)
        run = folder / 'work_dirs/student_alone/seed0'
        log = next(run.glob('*/vis_data/scalars.json'))
        log.write_text(log.read_text().replace('0.25', '0.5'))
        found = make(folder, '--out', folder / 'r.html')
        told = found.texts['what-changed']
        assert 'student_alone: accuracy measured now' in told
        assert 'differ by up to 25.0 points' in told

    def test_a_distiller_without_weights(self, project, tmp_path):
        work_dirs = shutil.copytree(project / 'work_dirs', tmp_path / 'w')
        log = next(work_dirs.glob('dtkd/seed0/*/vis_data/scalars.json'))
        log.write_text(log.read_text().replace('datw', 'other'))
        found = make(work_dirs, '--out', tmp_path / 'r.html')
        told = found.texts['teacher-weights']
        assert 'The training logged no weights of teachers' in told


def test_several_seeds(tmp_path):
    folder = write_project(tmp_path, seeds=(0, 1))
    found = make(folder, '--out', folder / 'r.html')
    assert found.row('models', 'distilled student')[1:3] == [
        '2',
        '25.00 ± 0.00',
    ]
    # Seed 0 answers class 1, seed 1 answers class 2.
    row = found.row('accuracy-per-class', 'long jump')
    assert row[1:5] == ['+50.0', '', '0.0 ± 0.0', '50.0 ± 70.7']
    told = found.texts['what-changed']
    assert 'on average of 2 trainings alone and 2 with distillation' in told
    text = found.texts['clips-fixed-and-broken']
    assert 'Fixed: 4 clips' in text and 'Broken: 2 clips' in text
    assert 'distilled: right in 1 of 2 runs' in text


def test_work_dirs_by_name(project, tmp_path):
    """As of `mim train`, whatever their names are."""
    alone, distilled = tmp_path / 'a', tmp_path / 'b'
    shutil.copytree(project / 'work_dirs/student_alone/seed0', alone)
    shutil.copytree(project / 'work_dirs/dtkd/seed0', distilled)
    found = make(
        *('--alone', alone, '--distilled', distilled),
        *('--classes', project / 'classes.txt', '--out', tmp_path / 'r.html'),
    )
    assert found.row('accuracy-per-class', 'long jump')[1] == '+100.0'
    listed = make(alone, distilled, '--out', tmp_path / 'r.html')
    assert listed.row('accuracy-per-class', 'class 1')[1] == '+100.0'


def test_several_distilled_students(project, tmp_path):
    """The one of `dtkd` is compared, the other one is listed."""
    work_dirs = shutil.copytree(project / 'work_dirs', tmp_path / 'w')
    other = shutil.copytree(work_dirs / 'dtkd', work_dirs / 'kd')
    config = next(other.glob('seed0/*/vis_data/config.py'))
    config.write_text(config.read_text() + "\nmark = 'another training'\n")
    found = make(work_dirs, '--out', tmp_path / 'r.html')
    assert 'other distilled students (kd)' in found.texts['what-changed']
    assert found.row('models', 'kd')[2] == '25.00'


def test_the_record_of_reproduce_names_the_checkpoint(project, tmp_path):
    run = shutil.copytree(
        project / 'work_dirs/student_alone/seed0', tmp_path / 'run'
    )
    (run / 'epoch_2.pth').rename(run / 'best.pth')
    record = dict(
        config_sha256='',
        checkpoint='best.pth',
        checkpoint_sha256='',
        training={},
        metrics={'acc/top1': 0.25},
        launches=[dict(seconds=90.0, commit='0123456789abcdef')],
    )
    (run / 'result.json').write_text(json.dumps(record))
    found = make(run, '--out', tmp_path / 'r.html')
    assert found.row('models', 'student alone')[-1] == '90 s'
    assert 'commit 0123456789ab' in found.texts['configs-and-versions']


class TestWrongInputs:
    @pytest.mark.parametrize(
        'arguments, message',
        [
            (['nowhere'], 'nowhere: there is no such folder'),
            (['.'], 'no training was found'),
            (['{p}', '--out', '{p}'], 'it is a folder, name a file'),
            (['{p}', '--classes', '{p}/val.txt'], 'has 8 names.*have 4'),
            (['{p}', '--classes', 'none.txt'], 'No such file'),
            (['--alone', '{p}/work_dirs/dtkd'], 'is a distiller'),
            (['--distilled', '{p}/work_dirs/student_alone'], 'no distiller'),
        ],
    )
    def test_is_refused(
        self, project, tmp_path, monkeypatch, arguments, message
    ):
        monkeypatch.chdir(tmp_path)
        arguments = [text.format(p=project) for text in arguments]
        with pytest.raises(SystemExit, match=message):
            report.main(arguments)

    @pytest.mark.parametrize('arguments', [[], ['x', '--clips', '-1']])
    def test_the_command_line(self, arguments, capsys):
        with pytest.raises(SystemExit):
            report.main(arguments)
        assert 'error: ' in capsys.readouterr().err

    def test_a_damaged_log_is_named(self, project, tmp_path):
        run = shutil.copytree(
            project / 'work_dirs/student_alone/seed0', tmp_path / 'run'
        )
        config = next(run.glob('*/vis_data/config.py'))
        config.write_text('model = __import__("os")')
        with pytest.raises(SystemExit, match='config.py, line 1'):
            report.main([str(run)])
