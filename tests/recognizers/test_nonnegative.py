"""The sign of what a head reads follows from the layers."""

import pytest
import torch
import torch.nn as nn
from tiny_models import FRAMES, SIZE, tiny_mvit, tiny_tsn, tiny_x3d

from dtkd_mmaction.recognizers.feature_tap import FeatureTap
from dtkd_mmaction.recognizers.model_spec import build_recognizer, load_config
from dtkd_mmaction.recognizers.nonnegative import head_input_is_nonnegative


class Backbone(nn.Module):
    """A convolution with something behind it."""

    def __init__(self, *layers, function=None):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv3d(3, 4, 1), *layers)
        self.function = function or (lambda x: x)

    def forward(self, x):
        return self.function(self.layers(x))


class Recognizer(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.cls_head = nn.Sequential(
            nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)
        )

    def extract_feat(self, inputs, stage):
        return self.cls_head(self.backbone(inputs[:, 0]))


def add_negative(x):
    x -= 1
    return x


@pytest.mark.parametrize(
    'layers, function, expected',
    [
        ([nn.ReLU()], None, True),
        ([nn.ReLU(inplace=True)], None, True),
        ([nn.ReLU(), nn.AdaptiveAvgPool3d(2), nn.Dropout()], None, True),
        ([nn.ReLU6(), nn.Identity()], None, True),
        ([], None, False),
        ([nn.Hardswish()], None, False),
        ([nn.ReLU(), nn.BatchNorm3d(4)], None, False),
        ([nn.AdaptiveAvgPool3d(2)], None, False),
        ([nn.ReLU()], lambda x: x - 1, False),
        ([nn.ReLU()], add_negative, False),
    ],
)
def test_of_layers(layers, function, expected):
    recognizer = Recognizer(Backbone(*layers, function=function))
    clip = torch.zeros(1, 1, 3, FRAMES, 8, 8)
    tap = FeatureTap(recognizer, clip)
    assert head_input_is_nonnegative(tap, clip) == expected


@pytest.mark.parametrize(
    'cfg, expected', [(tiny_x3d, True), (tiny_tsn, True), (tiny_mvit, False)]
)
def test_of_stock_models(cfg, expected):
    model = build_recognizer(load_config(dict(cfg=cfg()), 'm'), 'm')
    clip = torch.zeros(1, 1, 3, FRAMES, SIZE, SIZE)
    if cfg is tiny_tsn:
        clip = clip[:, 0].transpose(1, 2)
    assert head_input_is_nonnegative(FeatureTap(model, clip), clip) == expected
