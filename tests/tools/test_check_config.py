"""All problems of a config, and what its models cost."""

import subprocess
import sys

import pytest
from tiny_distillation import ROOT, write_distillation

CONFIG = f'{ROOT}/configs/dtkd/x3d_s_hmdb51.py'


def run(*arguments):
    return subprocess.run(
        [sys.executable, '-W', 'ignore', 'tools/check_config.py', *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def test_all_problems_at_once():
    result = run(
        CONFIG,
        '--no-files',
        '--cfg-options',
        'model.studnet=1',
        'model.loss_sr.tau=-4',
    )
    assert result.returncode == 1
    assert 'Did you mean model.student?' in result.stdout
    assert 'model.loss_sr.tau=-4' in result.stdout
    assert 'Teacher cache' not in result.stdout  # no costs of a wrong config


@pytest.fixture
def tiny(tmp_path):
    write_distillation(tmp_path)
    return str(tmp_path / 'dtkd.py')


def test_costs_of_all_models(tiny):
    result = run(tiny, '--no-files')
    assert result.returncode == 0, result.stdout + result.stderr
    for text in ('student', 'vit', 'cnn', 'GMACs', 'kB per view', 'MB per'):
        assert text in result.stdout
