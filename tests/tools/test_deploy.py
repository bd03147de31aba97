"""From the folder of a run to files that run without PyTorch."""

import json
import shutil

import deploy
import onnx
import pytest
import torch
from prediction.student import load_student
from tiny_distillation import run_tool
from tiny_models import FRAMES, SIZE
from tiny_run import NAMES, write_run

from dtkd_mmaction.deployment import Comparison


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Folder of a distillation run."""
    folder = tmp_path_factory.mktemp('run')
    write_run(folder)
    return folder


def test_a_run_becomes_files_and_one_table(run, monkeypatch, tmp_path, capsys):
    run_tool(
        deploy,
        monkeypatch,
        *(run, '--out', tmp_path, '--int8', '--rounds', 2, '--threads', 1),
        *('--include', 'normalise', 'softmax', '--max-drop', 100),
    )
    text = capsys.readouterr().out
    assert (tmp_path / 'deploy.md').read_text() + '\n' == text
    table = json.loads((tmp_path / 'deploy.json').read_text())
    assert table['metric'] == 'acc/top1' and table['threads'] == 1
    assert table['clip_shape'] == [3, FRAMES, SIZE, SIZE]
    rows = {row['runtime']: row for row in table['rows']}
    assert list(rows) == [
        'PyTorch',
        'PyTorch channels-last',
        'onnxruntime',
        'onnxruntime int8',
    ]
    exact = rows['onnxruntime']
    assert exact['agreement'] == 1 and exact['largest_difference'] < 1e-4
    assert exact['accuracy'] == rows['PyTorch']['accuracy']
    assert rows['onnxruntime int8']['bytes'] < 0.7 * exact['bytes']
    for row in rows.values():
        assert row['bytes'] == (tmp_path / row['file']).stat().st_size
        assert row['runtime'] in text

    model = onnx.load(tmp_path / 'student_int8.onnx')
    found = {e.key: json.loads(e.value) for e in model.metadata_props}
    assert found['class_names'] == NAMES
    assert found['pipeline'][1]['num_clips'] == 2

    # student.pth is the stock student with its config.
    student = load_student(str(tmp_path / 'student.pth'))
    stock = torch.load(run / 'student_epoch_1.pth')['state_dict']
    for name, value in student.recognizer.state_dict().items():
        assert torch.equal(value, stock[name])


def test_every_form_of_a_student_is_the_same(run, tmp_path):
    alone = tmp_path / 'student.pth'
    shutil.copy(run / 'student_epoch_1.pth', alone)
    weights = [
        load_student(str(path)).recognizer.state_dict()
        for path in (run, run / 'student_epoch_1.pth', alone)
    ]
    for state in weights[1:]:
        for name, value in weights[0].items():
            assert torch.equal(value, state[name])
    # Beside its run, an export knows the training list; alone it does not.
    beside = load_student(str(run / 'student_epoch_1.pth'))
    assert beside.dataset('train')['ann_file'] == f'{run}/train.txt'
    assert load_student(str(alone)).dataset('train') is None
    assert load_student(str(alone)).dataset('test') is not None


def fails(monkeypatch, *arguments):
    with pytest.raises(SystemExit) as error:
        run_tool(deploy, monkeypatch, *arguments)
    return str(error.value)


def test_wrong_arguments_say_what_would_work(run, monkeypatch, tmp_path):
    out = ('--out', tmp_path / 'out')
    assert 'holds no checkpoint' in fails(monkeypatch, tmp_path, *out)
    message = fails(monkeypatch, run / 'student_config.py', *out)
    assert 'student_config.py' in message
    text = fails(monkeypatch, run, *out, '--classes', run / 'val.txt')
    assert 'has 6 names, but the model has 4 classes' in text
    bare = tmp_path / 'bare.pth'
    torch.save(
        dict(state_dict=torch.load(run / 'student_epoch_1.pth')['state_dict']),
        bare,
    )
    assert 'Name it with --config' in fails(monkeypatch, bare, *out)
    assert not (tmp_path / 'out').exists()


def test_int8_needs_a_training_list(run, monkeypatch, tmp_path):
    alone = tmp_path / 'student.pth'
    shutil.copy(run / 'student_epoch_1.pth', alone)
    monkeypatch.setattr(deploy, 'export_onnx', lambda *_, **__: None)
    monkeypatch.setattr(deploy, 'OnnxRuntime', lambda *_: None)
    monkeypatch.setattr(deploy, 'quantise_onnx', lambda _, rows, *__: [*rows])
    text = fails(monkeypatch, alone, '--out', tmp_path / 'out', '--int8')
    assert 'Name it with --train-list' in text


def test_a_file_that_loses_too_much_is_named(run, monkeypatch, tmp_path):
    results = []
    for name, accuracy in (('student.pth', 0.9), ('int8.onnx', 0.885)):
        path = tmp_path / name
        path.write_text('weights')
        result = Comparison('runtime', str(path), dict(acc=accuracy))
        results.append(result)
        result.latency = [0.1]
    monkeypatch.setattr(deploy, 'write_files', lambda *_: [])
    monkeypatch.setattr(deploy, 'compare', lambda *_, **__: results)
    text = fails(monkeypatch, run, '--out', tmp_path)
    assert f'{path} in runtime loses 1.5 points' in text
    assert '(88.5 instead of 90.0); --max-drop allows 1.' in text
    run_tool(deploy, monkeypatch, run, '--out', tmp_path, '--max-drop', 2)
