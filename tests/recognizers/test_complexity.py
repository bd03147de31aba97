import copy

import torch
from mmengine.config import Config
from tiny_models import image_recognizer

from dtkd_mmaction.recognizers.complexity import (
    bytes_for_backward,
    measure_complexity,
)


def test_measuring_leaves_the_config_as_it_was():
    """MMAction2 takes the `type` out of the config of a timm backbone."""
    backbone = dict(type='timm.resnet10t', pretrained=True)
    config = Config(dict(model=image_recognizer(backbone, 512, 3)))
    wanted = copy.deepcopy(config.to_dict())
    first = measure_complexity(config, frames=2, size=32)
    assert config.to_dict() == wanted
    assert measure_complexity(config, frames=2, size=32) == first


def test_bytes_for_backward_counts_a_storage_once():
    x = torch.ones(10, requires_grad=True)

    def forward():
        y = x.exp()  # keeps y, 40 bytes
        return (y * y).sum()  # the same storage twice more

    assert bytes_for_backward(forward) == 40
