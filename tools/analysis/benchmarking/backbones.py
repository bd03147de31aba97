"""Speedups of image backbones from timm, torchvision and MMPretrain."""

from typing import List

from small_models import image_recognizer

from .teachers import compare, exact_variants
from .timing import Row
from .workbench import Workbench

# Name -> width of the last map, and the backbone of a Recognizer2D.
BACKBONES = {
    'timm tf_efficientnet_lite0': (
        1280,
        dict(type='timm.tf_efficientnet_lite0', pretrained=False),
    ),
    'timm resnet18': (512, dict(type='timm.resnet18', pretrained=False)),
    'timm vit_small_patch16_224': (
        384,
        dict(type='timm.vit_small_patch16_224', pretrained=False),
    ),
    'timm swin_tiny_patch4_window7_224': (
        768,
        dict(
            type='timm.swin_tiny_patch4_window7_224',
            pretrained=False,
            feature_shape='NHWC',
        ),
    ),
    'torchvision resnet18': (512, dict(type='torchvision.resnet18')),
    'torchvision mobilenet_v2': (
        1280,
        dict(type='torchvision.mobilenet_v2'),
    ),
    'MMPretrain ResNet-18': (
        512,
        dict(type='mmpretrain.ResNet', depth=18, norm_eval=False),
    ),
}


def measure_backbones(bench: Workbench) -> List[Row]:
    """Compares each speedup of each backbone alone, and all of them."""
    rows = []
    for name, (width, backbone) in BACKBONES.items():
        if 'patch' in name:  # it is built for one size
            backbone = dict(backbone, img_size=bench.args.teacher_view[1])
        cfg = image_recognizer(backbone, width, bench.num_classes or 2)
        bench.add_model(name, dict(cfg=cfg))
        variants = exact_variants(bench, name)
        rows += compare(bench, 'backbones', name, variants, bench.args.rounds)
    return rows
