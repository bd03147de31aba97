"""The tool that writes a config of the student's own clips."""

import os.path as osp
import subprocess
import sys

import pytest
from mmengine.config import Config

ROOT = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
CONFIG = osp.join(ROOT, 'configs/dtkd/x3d_s_hmdb51.py')


def run(*arguments):
    return subprocess.run(
        [sys.executable, osp.join(ROOT, 'tools/evaluation_view.py')]
        + list(map(str, arguments)),
        capture_output=True,
        text=True,
    )


def sizes(pipeline):
    return {
        transform['type']: transform.get('crop_size', transform.get('scale'))
        for transform in pipeline
        if transform['type'] in ('Resize', 'CenterCrop', 'ThreeCrop')
    }


@pytest.mark.parametrize('one_view', [False, True])
def test_the_new_config_has_the_students_clips(tmp_path, one_view):
    source = tmp_path / 'small.py'
    source.write_text(
        f'_base_ = {CONFIG!r}\nmodel = dict(student=dict(view=dict('
        'frames=8, size=112)))\n'
    )
    out = tmp_path / 'new' / 'own_view.py'
    done = run(source, '--out', out, *['--one-view'] * one_view)
    assert done.returncode == 0, done.stderr
    found, old = Config.fromfile(out), Config.fromfile(source)
    assert found.model == old.model
    assert found.train_dataloader == old.train_dataloader
    for name in ('val', 'test'):
        dataset = found[f'{name}_dataloader'].dataset
        before = old[f'{name}_dataloader'].dataset
        assert dataset.ann_file == before.ann_file
        assert 112 in sizes(dataset.pipeline).values()
        (sampler,) = (t for t in dataset.pipeline if 'clip_len' in t)
        assert sampler.clip_len == 8 and sampler.frame_interval == 8
    assert ('ThreeCrop' not in sizes(dataset.pipeline)) == one_view
    assert (sampler.num_clips == 1) == one_view


def test_a_student_without_a_view(tmp_path):
    source = tmp_path / 'small.py'
    source.write_text(
        f'_base_ = {CONFIG!r}\nmodel = dict(student=dict(view=None))\n'
    )
    done = run(source, '--out', tmp_path / 'new.py')
    assert done.returncode == 1
    assert 'model.student.view is not set' in done.stderr
    assert 'Traceback' not in done.stderr
