"""Kept views come back as they were; nothing in their files is executed."""

import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from mmaction.structures import ActionDataSample
from mmengine.structures import InstanceData

from dtkd_mmaction.datasets.kept_views import KeptViews


@pytest.fixture
def kept(tmp_path):
    return KeptViews(str(tmp_path / 'digest'))


def sample_of(label=3):
    sample = ActionDataSample(metainfo=dict(img_shape=(4, 4), view=1))
    sample.set_gt_label(label)
    return sample


def view_of(label=3):
    clip = torch.arange(48, dtype=torch.uint8).reshape(1, 3, 1, 4, 4)
    return dict(inputs=clip, data_samples=sample_of(label))


def test_everything_that_a_pipeline_packs_comes_back(kept):
    boxes = InstanceData(bboxes=torch.rand(2, 4))
    data = dict(
        view_of(),
        boxes=boxes,
        other={1: (np.float32(0.5), None, True, 'x', 2.5), 'n': [np.ones(2)]},
    )
    data['inputs'] = data['inputs'].transpose(-1, -2)  # not contiguous
    kept.write(5, 1, data)
    found = kept.read(5, 1)
    assert torch.equal(found['inputs'], data['inputs'])
    found['inputs'][0] = 0  # can be written
    assert found['data_samples'].metainfo == dict(img_shape=(4, 4), view=1)
    assert found['data_samples'].gt_label.tolist() == [3]
    assert torch.equal(found['boxes'].bboxes, boxes.bboxes)
    assert found['other'][1] == (np.float32(0.5), None, True, 'x', 2.5)
    assert type(found['other'][1][0]) is np.float32
    assert found['other']['n'][0].tolist() == [1, 1]


def test_what_cannot_be_stored_is_refused(kept, tmp_path):
    for value in (object(), np.array([{}], dtype=object), {1, 2}):
        with pytest.raises(TypeError, match='kept_in cannot store a'):
            kept.write(0, 0, dict(view_of(), value=value))
    assert not list(tmp_path.rglob('*.npz'))


@pytest.fixture
def path(kept, tmp_path):
    kept.write(5, 1, view_of())
    return tmp_path / 'digest' / 'view_001' / '000005.npz'


@pytest.mark.parametrize('content', [b'', b'PK\3\4', pickle.dumps(1)])
def test_what_is_no_view_is_not_read(kept, path, content):
    path.write_bytes(content)
    assert kept.read(5, 1) is None


def test_cut_and_flipped_files_are_not_read(kept, path):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert kept.read(5, 1) is None
    wanted = view_of()['inputs']
    start = whole.index(bytes(range(48)))
    for i in range(start, start + 48):  # within the clip
        flipped = bytearray(whole)
        flipped[i] ^= 1
        path.write_bytes(flipped)
        assert kept.read(5, 1) is None
    path.write_bytes(whole)
    assert torch.equal(kept.read(5, 1)['inputs'], wanted)


def test_the_file_of_another_view_is_not_read(kept, path, tmp_path):
    shutil.copy(path, path.with_name('000006.npz'))
    assert kept.read(6, 1) is None
    path.parent.rename(path.parent.with_name('view_002'))
    assert kept.read(5, 2) is None
    (tmp_path / 'digest').rename(tmp_path / 'other')
    assert KeptViews(str(tmp_path / 'other')).read(5, 1) is None


def test_a_foreign_file_runs_no_code(kept, path, tmp_path, monkeypatch):
    class Marker:
        def __reduce__(self):
            return os.system, (f'touch {tmp_path}/marker',)

    old = path.with_suffix('.pkl')  # as they were kept once
    old.write_bytes(pickle.dumps(Marker()))
    path.unlink()
    assert kept.read(5, 1) is None
    path.write_bytes(old.read_bytes())
    assert kept.read(5, 1) is None
    with open(path, 'wb') as file:
        np.savez(file, info=np.array([Marker()], dtype=object))
    assert kept.read(5, 1) is None
    assert not (tmp_path / 'marker').exists()


def test_left_overs_of_a_killed_run_are_removed(path, tmp_path):
    left = path.with_name('000007.npz.0123456789ab.writing')
    left.write_bytes(b'half')
    KeptViews(str(tmp_path / 'digest'))
    assert not left.exists() and path.exists()
