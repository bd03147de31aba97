"""The sweep says which models can be exported, and why others cannot."""

import json

import pytest
import sweep_export
from sweep_upstream import Case
from tiny_distillation import run_tool
from tiny_models import FRAMES, SIZE, tiny_tsn, tiny_x3d


def test_a_sweep_goes_on_and_names_reasons(monkeypatch, tmp_path, capsys):
    view = dict(frames=FRAMES, size=SIZE)
    broken = dict(tiny_x3d(), backbone=dict(type='NoSuchBackbone'))
    cases = [
        Case('tsn', 'tiny tsn', {}, tiny_tsn(), view, others=['a', 'b']),
        Case('tsn', 'second', {}, tiny_tsn(), view),
        Case('x3d', 'broken', {}, broken, view),
    ]
    for name, found in (
        ('movinet_cases', []),
        ('shipped_cases', cases),
        ('more_cases', []),
    ):
        monkeypatch.setattr(sweep_export, name, lambda _, found=found: found)
    page, results = tmp_path / 'page.md', tmp_path / 'results.json'
    files = ('--first', '--out', page, '--json', results)
    run_tool(sweep_export, monkeypatch, *files)
    good, bad = json.loads(results.read_text())
    assert good['batch'] == 'any' and good['clip'] == '4x3x32x32'
    assert good['megabytes'] > 40 and not good['reason']
    assert not bad['batch'] and 'NoSuchBackbone' in bad['reason']
    text = page.read_text()
    assert 'wrote 1 of 2 architectures' in text
    assert '| tsn | tiny tsn +2 | 4x3x32x32 | any |' in text
    assert '1. `broken`: KeyError' in text and '- `second`' in text

    capsys.readouterr()
    run_tool(sweep_export, monkeypatch, *files)
    assert not capsys.readouterr().out  # nothing is tried twice


def test_movinet_is_tried_with_and_without_looking_ahead():
    cases = sweep_export.movinet_cases(None)
    assert [case.model.backbone.causal for case in cases] == [False, True]
    assert not sweep_export.movinet_cases(['x3d'])


def test_an_unknown_family_is_refused(monkeypatch):
    with pytest.raises(SystemExit, match='there is no such family'):
        run_tool(sweep_export, monkeypatch, '--family', 'resnet')
