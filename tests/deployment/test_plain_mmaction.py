"""An exported student in MMAction2 as `pip install mmaction2` gives it."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch
from mmaction.apis import inference_recognizer
from mmaction.registry import MODELS
from mmengine.config import Config
from noise_clips import write_clips
from tiny_models import FRAMES, SIZE, tiny_distiller

from dtkd_mmaction.deployment.student_export import (
    config_file,
    student_checkpoint,
)

# Packages that such an installation lacks; mmaction.models.localizers.drn is
# missing in the release itself.
PLAIN = """
    import sys
    for name in ('dtkd_mmaction', 'importlib_metadata', 'torchvision',
                 'mmpretrain', 'mmdet', 'timm'):
        sys.modules[name] = None
    import importlib.util, os.path
    mmaction = importlib.util.find_spec('mmaction').origin
    assert not os.path.exists(
        os.path.join(os.path.dirname(mmaction), 'models/localizers/drn'))
"""
INFER = (
    PLAIN
    + """
    import json
    import torch
    from mmaction.apis import (
        MMAction2Inferencer, inference_recognizer, init_recognizer)
    config, checkpoint, *clips = sys.argv[1:]
    model = init_recognizer(config, checkpoint, device='cpu')
    state = torch.load(checkpoint, weights_only=True)['state_dict']
    model.load_state_dict(state, strict=True)
    scores = [inference_recognizer(model, clip).pred_score for clip in clips]
    inferencer = MMAction2Inferencer(
        rec=config, rec_weights=checkpoint, device='cpu')
    again = [
        inferencer(clip)['predictions'][0]['rec_scores'][0] for clip in clips]
    assert [s.tolist() for s in scores] == again
    torch.save(torch.stack(scores), 'scores.pt')
"""
)
TEST = (
    PLAIN
    + """
    import runpy
    runpy.run_path(
        os.path.join(os.path.dirname(mmaction), '.mim/tools/test.py'),
        run_name='__main__')
"""
)


def run(folder, code, *arguments):
    (folder / 'main.py').write_text(textwrap.dedent(code))
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', 'main.py', *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(os.environ, PYTHONPATH=''),
    )
    assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout


@pytest.fixture(scope='module')
def export(tmp_path_factory):
    """A folder with clips and an export; and the scores of the student."""
    folder = tmp_path_factory.mktemp('plain')
    write_clips(folder, dict(val=3))
    pipeline = [
        dict(type='DecordInit'),
        dict(
            type='SampleFrames',
            clip_len=FRAMES,
            frame_interval=1,
            num_clips=1,
            test_mode=True,
        ),
        dict(type='FrameExactDecode'),
        dict(type='Resize', scale=(SIZE, SIZE), keep_ratio=False),
        dict(type='FormatShape', input_format='NCTHW'),
        dict(type='PackActionInputs'),
    ]
    config = Config(
        dict(
            default_scope='mmaction',
            model=tiny_distiller(),
            test_pipeline=pipeline,
            test_dataloader=dict(
                batch_size=1,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(
                    type='CheckedVideoDataset',
                    ann_file='val.txt',
                    data_prefix=dict(video='.'),
                    pipeline=pipeline,
                    test_mode=True,
                ),
            ),
            test_evaluator=dict(type='AccMetric'),
            test_cfg=dict(type='TestLoop'),
        )
    )
    distiller = MODELS.build(config.model)
    checkpoint = student_checkpoint(
        dict(
            meta=dict(cfg=config.pretty_text),
            state_dict=distiller.state_dict(),
        )
    )
    torch.save(checkpoint, folder / 'student.pth')
    (folder / 'student_config.py').write_text(
        config_file(checkpoint['meta']['cfg'])
    )
    student = distiller.student.eval()
    student.cfg = config
    clips = [f'{folder}/val_{i}.mp4' for i in range(3)]
    scores = [inference_recognizer(student, clip).pred_score for clip in clips]
    return folder, clips, torch.stack(scores)


def test_its_interfaces_give_the_students_scores(export):
    folder, clips, scores = export
    run(folder, INFER, 'student_config.py', 'student.pth', *clips)
    assert torch.equal(torch.load(folder / 'scores.pt'), scores)


def test_its_test_command(export):
    folder, _, scores = export
    correct = (scores.argmax(1) == torch.arange(3)).float().mean()
    text = run(folder, TEST, 'student_config.py', 'student.pth')
    assert f'acc/top1: {correct:.4f}' in text
