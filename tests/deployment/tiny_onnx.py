"""Tiny recognizers with realistic logits, and videos for them."""

import torch
from benchmarking.workbench import make_realistic
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from tiny_models import FRAMES, SIZE

from dtkd_mmaction.recognizers.model_spec import build_recognizer

CLIP = (3, FRAMES, SIZE, SIZE)
FOLDED = (FRAMES, 3, SIZE, SIZE)
NAMES = ['jump', 'run', 'clap hands', 'Läufer']


def realistic(config):
    """A recognizer with random weights that tells videos apart."""
    torch.manual_seed(0)
    model = build_recognizer(Config(dict(model=config)), 'model')
    videos = [video_of(config, seed=seed)['inputs'] for seed in range(4)]
    data = dict(inputs=videos, data_samples=None)
    make_realistic(model, model.data_preprocessor(data)['inputs'])
    return model


def video_of(config, views=1, label=0, seed=0):
    """What a stock pipeline gives for a video: noise of its own colour."""
    folded = config['type'] == 'Recognizer2D'
    shape = (views * FRAMES, *FOLDED[1:]) if folded else (views, *CLIP)
    generator = torch.Generator().manual_seed(seed)
    colour = torch.randint(0, 156, (3,), generator=generator)
    noise = torch.randint(0, 100, shape, generator=generator)
    colour = colour.view((3, 1, 1) if folded else (3, 1, 1, 1))
    return dict(
        inputs=(noise + colour).to(torch.uint8),
        data_samples=ActionDataSample().set_gt_label(label),
    )
