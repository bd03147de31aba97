"""An exported graph scores videos as the stock model does."""

import json
import sys

import numpy as np
import onnx
import pytest
import torch
from tiny_models import FRAMES, SIZE, tiny_tsn, tiny_x3d
from tiny_onnx import CLIP, FOLDED, NAMES, realistic, video_of

from dtkd_mmaction.deployment import (
    ExportError,
    compare,
    export_onnx,
    onnx_export,
    quantise_onnx,
)
from dtkd_mmaction.deployment.clip_classifier import (
    ClipClassifier,
    clip_shape_of,
    normalisation,
)
from dtkd_mmaction.deployment.comparison import runtime_rows, stock_scores
from dtkd_mmaction.deployment.runtimes import OnnxRuntime, TorchRuntime

PIPELINE = [dict(type='SampleFrames', clip_len=FRAMES, test_mode=True)]


@pytest.fixture(scope='module')
def logits_of_clips(tmp_path_factory):
    """X3D; any batch of normalised clips in, logits out."""
    path = tmp_path_factory.mktemp('onnx') / 'x3d.onnx'
    model = realistic(tiny_x3d())
    export_onnx(model, CLIP, path)
    return model, path


@pytest.fixture(scope='module')
def probabilities_of_frames(tmp_path_factory):
    """TSN; two videos of uint8 frames in, probabilities out."""
    path = tmp_path_factory.mktemp('onnx') / 'tsn.onnx'
    config = tiny_tsn()
    config['data_preprocessor']['to_rgb'] = True
    model = realistic(config)
    export_onnx(
        model,
        FOLDED,
        path,
        batch=2,
        normalise=True,
        softmax=True,
        class_names=NAMES,
        pipeline=PIPELINE,
    )
    return model, path


def metadata(path):
    entries = onnx.load(path).metadata_props
    return {entry.key: json.loads(entry.value) for entry in entries}


def test_views_are_averaged_as_in_the_stock_model(logits_of_clips):
    model, path = logits_of_clips
    video = video_of(tiny_x3d(), views=3)
    rows = runtime_rows(model, video, CLIP, normalise=False)
    logits = torch.from_numpy(
        OnnxRuntime(path, 1).session.run(['logits'], dict(clips=rows))[0]
    )
    mean = logits.softmax(dim=1).mean(dim=0)
    assert torch.allclose(mean, stock_scores(model, video), atol=1e-5)


def test_frames_in_probabilities_out(probabilities_of_frames):
    model, path = probabilities_of_frames
    runtime = OnnxRuntime(path, 1)
    assert runtime.input.shape == [2, FRAMES, SIZE, SIZE, 3]
    assert runtime.input.type == 'tensor(uint8)'
    videos = [video_of(tiny_tsn(), seed=seed) for seed in range(3)]
    frames = [v['inputs'].permute(0, 2, 3, 1).numpy() for v in videos]
    found = runtime(np.stack(frames))  # three videos, in batches of two
    expected = [stock_scores(model, video).numpy() for video in videos]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_metadata_is_enough_to_use_the_file(
    logits_of_clips, probabilities_of_frames
):
    found = metadata(probabilities_of_frames[1])
    assert found['class_names'] == NAMES
    assert found['pipeline'] == PIPELINE
    assert found['input'] == dict(layout='NTHWC')
    assert found['output'] == dict(average='prob', class_counts=[4])
    found = metadata(logits_of_clips[1])
    to_rgb, mean, std = normalisation(logits_of_clips[0])
    assert found['input'] == dict(
        layout='NCTHW', to_rgb=to_rgb, mean=mean, std=std
    )
    assert not {'class_names', 'pipeline'} & set(found)


def test_wrong_input_names_the_argument(tmp_path):
    model, path = realistic(tiny_x3d()), tmp_path / 'x3d.onnx'
    with pytest.raises(ValueError, match=r'\(4, 3, 32, 32\): expected \(3, T'):
        export_onnx(model, FOLDED, path)
    with pytest.raises(ValueError, match='3 class names .* has 4 classes'):
        export_onnx(model, CLIP, path, class_names=NAMES[:3])
    with pytest.raises(TypeError, match='model.type=Linear'):
        export_onnx(torch.nn.Linear(1, 1), CLIP, path)
    assert not path.exists()


def test_a_missing_package_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    with pytest.raises(ImportError, match='pip install onnxscript'):
        export_onnx(realistic(tiny_x3d()), CLIP, tmp_path / 'x3d.onnx')


def test_a_graph_with_other_scores_is_an_error(
    logits_of_clips, monkeypatch, tmp_path
):
    model, path = logits_of_clips
    wrong = onnx.load(path)
    bias = next(
        i for i in wrong.graph.initializer if 'cls_head.fc2.bias' in i.name
    )
    bias.raw_data = np.full(4, 0.05, np.float32).tobytes()
    monkeypatch.setattr(onnx_export, 'traced', lambda *_: wrong)
    with pytest.raises(ExportError, match='logits of the graph .* differ'):
        export_onnx(model, CLIP, tmp_path / 'wrong.onnx')


def test_a_model_that_cannot_be_traced_says_why(tmp_path):
    model = realistic(tiny_x3d())
    forward = model.backbone.forward
    model.backbone.forward = lambda x: forward(x if x.sum() > 0 else -x)
    with pytest.raises(ExportError, match='this model: .*data(.|\n)*batch=1'):
        export_onnx(model, CLIP, tmp_path / 'x3d.onnx')


def test_a_group_of_frames_per_vote():
    """TSM votes once per ``num_segments`` frames, TSN once per video."""
    video = video_of(tiny_tsn(), views=3)['inputs']
    tsn = realistic(tiny_tsn())
    assert clip_shape_of(tsn, video) == (3 * FRAMES, *FOLDED[1:])
    head = dict(type='TSMHead', num_segments=FRAMES, average_clips='prob')
    config = tiny_tsn()
    config['cls_head'] = dict(config['cls_head'], **head)
    assert clip_shape_of(realistic(config), video) == FOLDED
    assert clip_shape_of(tsn, torch.zeros(5, *CLIP)) == CLIP


def test_int8_is_smaller_and_nearly_as_good(logits_of_clips, tmp_path):
    model, path = logits_of_clips
    videos = [video_of(tiny_x3d(), seed=seed) for seed in range(8)]
    rows = [runtime_rows(model, video, CLIP, False) for video in videos]
    out = tmp_path / 'int8.onnx'
    quantise_onnx(path, rows, out, reduce_range=True)
    assert out.stat().st_size < 0.6 * path.stat().st_size
    kinds = {node.op_type for node in onnx.load(out).graph.node}
    assert {'QuantizeLinear', 'DequantizeLinear'} <= kinds
    assert metadata(out) == {**metadata(path), 'quantisation': {'bits': 7}}
    expected = np.concatenate([OnnxRuntime(path, 1)(row) for row in rows])
    found = np.concatenate([OnnxRuntime(out, 1)(row) for row in rows])
    assert not np.array_equal(found, expected)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95


def test_calibration_clips_are_checked(logits_of_clips, tmp_path):
    _, path = logits_of_clips
    out = tmp_path / 'int8.onnx'
    with pytest.raises(ValueError, match='no calibration batches'):
        quantise_onnx(path, [], out)
    small = np.zeros((1, 3, FRAMES, SIZE, 8), np.float32)
    with pytest.raises(ValueError, match=r"takes \('any', 3, 4, 32, 32\)"):
        quantise_onnx(path, [small], out)
    assert not out.exists()


def test_compare_measures_each_runtime(logits_of_clips):
    model, path = logits_of_clips
    worse = ClipClassifier(model)
    last = [m for m in worse.modules() if isinstance(m, torch.nn.Linear)][-1]
    last.weight.data *= -1
    videos = [video_of(tiny_x3d(), 2, i % 4, seed=i) for i in range(8)]
    good, same, bad = compare(
        model,
        [
            TorchRuntime(ClipClassifier(model), 'a.pth', 1, True),
            OnnxRuntime(path, 1),
            TorchRuntime(worse, 'b.pth', 1),
        ],
        videos,
        CLIP,
        rounds=5,
    )
    labels = [i % 4 for i in range(8)]
    right = [
        int(stock_scores(model, video).argmax()) == label
        for video, label in zip(videos, labels)
    ]
    for result in (good, same):
        assert result.metrics['acc/top1'] == sum(right) / 8
        assert result.agreement == 1 and result.difference < 1e-4
    assert good.name == 'PyTorch channels-last'
    assert bad.agreement < 1 and bad.difference > 0.1
    assert len(bad.latency) == 5 and 0 < bad.median <= bad.p95
    assert bad.throughput > 0


def test_compare_refuses_clips_of_another_size(logits_of_clips):
    model, path = logits_of_clips
    runtimes = [OnnxRuntime(path, 1)]
    with pytest.raises(ValueError, match='no videos'):
        compare(model, runtimes, [], CLIP)
    video = video_of(tiny_x3d())
    video['inputs'] = video['inputs'][..., :16]
    with pytest.raises(ValueError, match='Put a CenterCrop'):
        compare(model, runtimes, [video], CLIP)


def test_openvino_gives_the_same_scores(logits_of_clips, tmp_path):
    pytest.importorskip('openvino')
    from dtkd_mmaction.deployment.runtimes import (
        OpenVinoRuntime,
        write_openvino,
    )

    model, path = logits_of_clips
    xml, weights = write_openvino(path, tmp_path / 'student.xml')
    rows = runtime_rows(model, video_of(tiny_x3d(), 3), CLIP, False)
    found = OpenVinoRuntime(xml, 1)(rows)
    np.testing.assert_allclose(found, OnnxRuntime(path, 1)(rows), atol=1e-4)
