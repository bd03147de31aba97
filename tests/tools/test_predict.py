"""Predictions of a checkpoint and of its ONNX file."""

import json
import os.path as osp
import pickle
import subprocess
import sys

import numpy as np
import onnx
import predict
import pytest
import torch
from deploying.clips import Clips
from mmengine.config import Config
from prediction.frames import Stream
from prediction.pipeline import ClipPipeline
from prediction.student import load_student
from prediction.torch_model import TorchModel
from prediction.windows import Window, segments, spans
from tiny_distillation import ROOT, run_tool
from tiny_models import FRAMES, SIZE, tiny_x3d
from tiny_run import NAMES, TEST_PIPELINE, write_run
from toy_training import ToyRunner

from dtkd_mmaction.deployment import export_onnx, export_stream_onnx

CROPPED = [dict(transform) for transform in TEST_PIPELINE]
CROPPED[4] = dict(type='CenterCrop', crop_size=SIZE)
NO_TORCH = f"""
import sys
for name in ('torch', 'mmaction', 'mmengine', 'mmcv', 'dtkd_mmaction'):
    sys.modules[name] = None
import runpy
sys.path.insert(0, {osp.join(ROOT, 'tools')!r})
runpy.run_path({osp.join(ROOT, 'tools/predict.py')!r}, run_name='__main__')
"""


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A run, its ONNX file, and what tools/test.py says of its clips."""
    folder = tmp_path_factory.mktemp('run')
    write_run(folder)
    student = load_student(str(folder / 'student_epoch_1.pth'))
    export_onnx(
        student.recognizer,
        (3, FRAMES, SIZE, SIZE),
        folder / 'student.onnx',
        class_names=NAMES,
        pipeline=Clips(student).pipeline,
    )
    config = Config.fromfile(folder / 'student_config.py')
    config.work_dir = str(folder / 'work')
    config.load_from = str(folder / 'student_epoch_1.pth')
    config.test_evaluator = dict(
        type='DumpResults', out_file_path=str(folder / 'results.pkl')
    )
    ToyRunner.from_cfg(config).test()
    with open(folder / 'results.pkl', 'rb') as file:
        results = pickle.load(file)
    return folder, [r['pred_score'].numpy() for r in results]


def answers(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def scores_of(answer):
    best = sorted(answer['top'], key=lambda entry: entry['label'])
    return [entry['score'] for entry in best]


def clips_of(folder):
    return [str(folder / f'val_{i}.mp4') for i in range(6)]


def test_a_checkpoint_answers_as_the_test_does(run, monkeypatch, capsys):
    folder, expected = run
    for model in ('student_epoch_1.pth', 'epoch_1.pth', '.'):
        run_tool(
            predict, monkeypatch, folder / model, *clips_of(folder), '--json'
        )
        found = answers(capsys)
        assert [answer['video'] for answer in found] == clips_of(folder)
        np.testing.assert_allclose(
            [scores_of(answer) for answer in found], expected, rtol=1e-5
        )
    assert {entry['name'] for entry in found[0]['top']} == set(NAMES)


def test_the_file_answers_the_same_without_torch(run):
    folder, expected = run
    result = subprocess.run(
        [
            *(sys.executable, '-c', NO_TORCH, folder / 'student.onnx'),
            *(*clips_of(folder), '--json'),
        ],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    np.testing.assert_allclose(
        [scores_of(answer) for answer in found], expected, atol=1e-5
    )
    best = found[0]['top'][0]
    assert best['name'] == NAMES[best['label']]


def test_text_names_the_best_classes_first(run, monkeypatch, capsys):
    folder, expected = run
    clip = clips_of(folder)[0]
    model = folder / 'student.onnx'
    run_tool(predict, monkeypatch, model, clip, '--top', 2)
    first, best, second = capsys.readouterr().out.splitlines()
    order = np.argsort(-expected[0])
    assert first == clip
    assert best.split(maxsplit=1)[1] == NAMES[order[0]]
    assert second.split(maxsplit=1)[1] == NAMES[order[1]]


def test_windows_and_camera_see_the_frames_of_their_time(
    run, monkeypatch, capsys
):
    """A clip has 12 frames at 10 fps; a window of 4 is one clip, twice."""
    folder, _ = run
    model, clip = folder / 'student.onnx', clips_of(folder)[0]
    window = ('--window', FRAMES / 10, '--stride', 0.2, '--json')
    run_tool(predict, monkeypatch, model, clip, *window)
    (answer,) = answers(capsys)
    times = [round(w['start'] * 10) for w in answer['windows']]
    assert times == [0, 2, 4, 6, 8]
    assert answer['segments'][0]['start'] == 0
    assert answer['segments'][-1]['end'] == 1.2

    run_tool(predict, monkeypatch, model, '--camera', clip, *window)
    live = answers(capsys)
    assert [round(moment['time'] * 10) for moment in live] == [4, 6, 8, 10, 12]
    for moment, part in zip(live, answer['windows']):
        # OpenCV and decord decode a little differently.
        np.testing.assert_allclose(
            scores_of(moment), scores_of(part), atol=0.02
        )


def test_one_bad_video_does_not_stop_the_others(run, monkeypatch, capsys):
    folder, _ = run
    arguments = (folder / 'student.onnx', 'no.mp4', clips_of(folder)[0])
    with pytest.raises(SystemExit) as error:
        run_tool(predict, monkeypatch, *arguments, '--json')
    assert error.value.code == 1
    bad, good = answers(capsys)
    assert 'no such file' in bad['error'] and len(good['top']) == 4


def fails(monkeypatch, *arguments):
    with pytest.raises(SystemExit) as error:
        run_tool(predict, monkeypatch, *arguments)
    return str(error.value)


def test_wrong_models_are_named(run, monkeypatch, tmp_path):
    clip = clips_of(run[0])[0]
    text = fails(monkeypatch, tmp_path / 'no.onnx', clip)
    assert 'no.onnx: there is no such file' in text
    noise = tmp_path / 'noise.onnx'
    noise.write_text('noise')
    assert 'cannot read it' in fails(monkeypatch, noise, clip)
    bare = tmp_path / 'bare.onnx'
    model = onnx.load(run[0] / 'student.onnx')
    del model.metadata_props[:]
    onnx.save(model, bare)
    assert 'Make it with tools/deploy.py' in fails(monkeypatch, bare, clip)
    assert 'holds no checkpoint' in fails(monkeypatch, tmp_path, clip)
    assert '2' == fails(monkeypatch, run[0] / 'student.onnx')


def test_windows_cover_a_video():
    assert spans(10, 4, 4) == [(0, 4), (4, 8), (6, 10)]
    assert spans(8, 4, 4) == [(0, 4), (4, 8)]
    assert spans(3, 4, 4) == [(0, 3)]


def test_neighbouring_windows_become_one_segment():
    scores = [np.array(s) for s in ([0.9, 0.1], [0.7, 0.3], [0.2, 0.8])]
    windows = [Window(i, i + 2, score) for i, score in enumerate(scores)]
    found = segments(windows, ['run', 'jump'])
    assert found == [
        dict(start=0, end=2, name='run', score=pytest.approx(0.8)),
        dict(start=2, end=4, name='jump', score=0.8),
    ]


@pytest.fixture(scope='module')
def streaming(tmp_path_factory):
    """A run whose student is a causal MoViNet, and its streaming file."""
    folder = tmp_path_factory.mktemp('stream')
    student = tiny_x3d()
    student['backbone'] = dict(type='MoViNet', arch='a0', causal=True)
    student['cls_head'] = dict(
        type='MoViNetHead', num_classes=4, in_channels=480, hidden_channels=8
    )
    write_run(folder, CROPPED, student=dict(cfg=student))
    model = load_student(str(folder))
    generator = torch.Generator().manual_seed(0)
    for name, value in model.recognizer.named_parameters():
        if name.endswith('alpha'):  # 0 in a new network: nothing is seen
            torch.nn.init.constant_(value, 0.5)
        elif 'cls_head' in name:
            torch.nn.init.normal_(value, std=0.2, generator=generator)
    checkpoint = dict(model.checkpoint)
    checkpoint['state_dict'] = model.recognizer.state_dict()
    torch.save(checkpoint, folder / 'student.pth')
    export_stream_onnx(
        model.recognizer,
        (3, FRAMES, SIZE, SIZE),
        folder / 'stream.onnx',
        normalise=True,
        softmax=True,
        class_names=NAMES,
        pipeline=CROPPED,
    )
    return folder


def test_frame_by_frame_the_file_gives_the_scores_of_the_clip(
    streaming, monkeypatch, capsys
):
    clip = clips_of(streaming)[0]
    results = []
    for model in ('stream.onnx', 'student.pth'):
        arguments = (streaming / model, '--camera', clip, '--json')
        run_tool(predict, monkeypatch, *arguments)
        results.append([scores_of(moment) for moment in answers(capsys)])
    np.testing.assert_allclose(*results, atol=1e-5)
    assert len(results[0]) == 12
    assert np.abs(np.diff(results[0], axis=0)).max() > 1e-3

    # The answer after the last frame is that of the whole clip at once.
    pixels = np.stack(ClipPipeline(CROPPED).pixels(list(Stream(clip))))
    whole = TorchModel(str(streaming / 'student.pth')).scores(pixels[None])
    np.testing.assert_allclose(whole, results[0][-1], atol=1e-5)


def test_only_a_causal_movinet_streams(run, tmp_path):
    student = load_student(str(run[0])).recognizer
    with pytest.raises(TypeError, match='only a MoViNet with causal=True'):
        export_stream_onnx(student, (3, 4, 32, 32), tmp_path / 'x.onnx')
