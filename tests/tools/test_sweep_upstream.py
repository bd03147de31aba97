import importlib.util
import json
import os.path as osp
import sys

import pytest
import torch

SCRIPT = osp.join(
    osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__)))),
    'tools',
    'analysis',
    'sweep_upstream.py',
)


@pytest.fixture(scope='module')
def sweep():
    spec = importlib.util.spec_from_file_location('sweep_upstream', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules['sweep_upstream'] = module  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules['sweep_upstream']


def run(sweep, monkeypatch, *args):
    monkeypatch.setattr(sys, 'argv', ['sweep_upstream.py', *args])
    sweep.main()


def test_two_families(sweep, monkeypatch, tmp_path):
    page, results = (
        tmp_path / 'supported_models.md',
        tmp_path / 'supported_models.json',
    )
    run(
        sweep,
        monkeypatch,
        *('--family', 'x3d', 'omnisource', '--role', 'student'),
        *('--out', str(page), '--json', str(results)),
    )
    omni, omni_3d, x3d = sorted(
        json.loads(results.read_text()), key=lambda case: case['family']
    )
    assert x3d['grid'] == [432, 16, 2, 2] and x3d['tap'] == 'backbone'
    assert x3d['embedding_matches'] and x3d['alignment'] > 0.3
    assert x3d['seconds']['student'] > 0 and not x3d['reasons']
    assert x3d['others'] == ['x3d_s_13x6x1_facebook-kinetics400-rgb']
    assert omni_3d['seconds'] and not omni['seconds']
    assert 'loss' in omni['reasons']['student']

    text = page.read_text()
    assert '2 of 3 steps succeeded, for 3 models out of 4\nconfigs.' in text
    assert 'python sweep_upstream.py --family x3d omnisource' in text
    assert '| x3d | x3d_m_16x5x1_facebook-kinetics400-rgb +1 | 16x64x64 |' in (
        text
    )
    assert 'no (1)' in text and '\n1. `slowonly_r50_8xb16' in text


def test_unknown_family(sweep, monkeypatch):
    with pytest.raises(SystemExit, match=r"No family \['resnet'\]. Known"):
        run(sweep, monkeypatch, '--family', 'resnet')


def test_every_rgb_config_is_in_a_case(sweep):
    cases = list(sweep.shipped_cases())
    names = [name for case in cases for name in [case.name, *case.others]]
    shipped = [osp.basename(path)[:-3] for path in sweep.shipped_configs()]
    assert sorted(names) == sorted(shipped) and len(names) > 100
    assert len({case.family for case in cases}) == 22


@pytest.mark.parametrize('axes', [(0, 1, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0)])
def test_alignment_is_negative_for_another_order(sweep, axes):
    """A grid is the clip in patches, its axes exchanged or not."""
    torch.manual_seed(0)
    clips = sweep.clips_that_differ(torch.randn(1, 1, 3, 8, 8, 8), (4, 4, 4))
    grid = torch.nn.functional.avg_pool3d(clips[:, 0], 2)
    grid = grid.permute(0, 1, *[axis + 2 for axis in axes])
    alignment = sweep.axis_alignment(grid)
    assert alignment == 1 if axes == (0, 1, 2) else alignment < 0
